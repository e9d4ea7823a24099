package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/blockscan"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/chunkmask"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/deletion"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/headrecovery"
)

// deleteSeriesConfig holds the flags of tools bucket delete-series.
type deleteSeriesConfig struct {
	tool                      toolConfig
	matches                   []string
	from, until               flags.TimeOrDuration
	tenant, tenantLabel       string
	details                   string
	delay, keep, deletesAfter flags.Duration
	status, cancel            string
	list, yes, dryRun         bool
	output                    string
}

// deleteSeriesCommand adds the command that deletes series.
func deleteSeriesCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("delete-series", "Deletes series: lists the blocks that have them, and with --yes writes a deletion request into the bucket. Stores hide the samples within a minute; the compactor and the receivers remove them after --delay. --status says what is left.")
	c := deleteSeriesConfig{deletesAfter: flags.Duration(48 * time.Hour)}
	c.tool.register(cmd)
	cmd.Flag("match", "Series selector, such as up{job=\"x\"}; it sees external labels, too. May be repeated: a series that any of them matches is deleted.").StringsVar(&c.matches)
	cmd.Flag("min-time", "Delete samples from this time on: a time (RFC 3339), or a duration relative to now such as -30d.").Default("0000-01-01T00:00:00Z").SetValue(&c.from)
	cmd.Flag("max-time", "Delete samples up to this time; never those after the request.").Default("9999-12-31T23:59:59Z").SetValue(&c.until)
	cmd.Flag("tenant", "Only series of this tenant.").StringVar(&c.tenant)
	cmd.Flag("tenant-label", "External label that names the tenant.").Default(deletion.DefaultTenantLabel).StringVar(&c.tenantLabel)
	cmd.Flag("details", "Text that the request holds: who asked for the deletion, and why.").StringVar(&c.details)
	cmd.Flag("delay", "Time until the samples are removed; the request can be cancelled until then. They are hidden at once.").Default("1h").SetValue(&c.delay)
	cmd.Flag("keep", "Time after that for which the request applies to blocks that are uploaded later.").Default("35d").SetValue(&c.keep)
	cmd.Flag("status", "ULID of a request: list the blocks, the head logs, and the receivers and caches of store gateways that have reported, which may still have its samples.").StringVar(&c.status)
	cmd.Flag("cancel", "ULID of a pending request: cancel it.").StringVar(&c.cancel)
	cmd.Flag("list", "List the requests of the bucket.").Default("false").BoolVar(&c.list)
	cmd.Flag("delete-delay", "As for the compactor: with --status, when a block that is marked for deletion goes.").Default("48h").SetValue(&c.deletesAfter)
	cmd.Flag("yes", "Write the request. Without it, the command lists the blocks that have the series and exits with 2.").Default("false").BoolVar(&c.yes)
	cmd.Flag("dry-run", "List the blocks that have the series, and exit with 0.").Default("false").BoolVar(&c.dryRun)
	cmd.Flag("output", "Form of the list: table, json or yaml.").Default(outputTable).EnumVar(&c.output, outputTable, outputJSON, outputYAML)
	return command{name: "delete-series", run: c.run}
}

// run carries out the one action that the flags choose.
func (c *deleteSeriesConfig) run(ctx context.Context, s streams) error {
	chosen := 0
	for _, is := range []bool{len(c.matches) > 0, c.status != "", c.cancel != "", c.list} {
		if is {
			chosen++
		}
	}
	if chosen != 1 {
		return flags.Invalid(errors.New("give one of --match, --status, --cancel and --list"))
	}
	if c.yes && c.dryRun {
		return flags.Invalid(errors.New("--dry-run and --yes exclude each other"))
	}
	var id ulid.ULID
	if text := c.status + c.cancel; text != "" {
		var err error
		if id, err = ulid.ParseStrict(text); err != nil {
			return flags.Invalid(fmt.Errorf("%q is not the ULID of a deletion request", text))
		}
	}
	return c.tool.withBucket(ctx, s, func(ctx context.Context, p *process, bkt bucket.Bucket) error {
		now := time.Now()
		if c.yes || c.cancel != "" {
			// The compactor measures the delay by the clock of the bucket.
			var err error
			if now, err = headrecovery.Now(ctx, bkt); err != nil {
				return err
			}
		}
		switch {
		case c.status != "":
			return c.report(ctx, s, p, bkt, id)
		case c.cancel != "":
			if err := deletion.Cancel(ctx, bkt, id, c.details, now); err != nil {
				return noRequest("--cancel", id, err)
			}
			return c.requests(ctx, s, bkt, now, id)
		case c.list:
			return c.requests(ctx, s, bkt, now, ulid.ULID{})
		}
		return c.create(ctx, s, p, bkt, now)
	})
}

// create writes a request, or lists what it would delete.
func (c *deleteSeriesConfig) create(ctx context.Context, s streams, p *process, bkt bucket.Bucket, now time.Time) error {
	r, err := deletion.New(deletion.Options{
		Selectors: c.matches, MinTime: c.from.Millis(now), MaxTime: c.until.Millis(now), Tenant: c.tenant, TenantLabel: c.tenantLabel,
		Details: c.details, Delay: c.delay.Duration(), Keep: c.keep.Duration(),
	}, now)
	if err != nil {
		return flags.Invalid(err)
	}
	if !c.yes {
		rows, err := c.blocks(ctx, s, p, bkt, r)
		if err = errors.Join(printLeft(s, c.output, rows), err); err != nil || c.dryRun {
			return err
		}
		return flags.Invalid(errors.New("nothing was changed: give --yes to write the request, or --dry-run to list the blocks only"))
	}
	if err := deletion.Put(ctx, bkt, r); err != nil {
		return err
	}
	return c.requests(ctx, s, bkt, now, r.ID)
}

// requestRow is one request.
type requestRow struct {
	Request    string   `json:"request" yaml:"request"`
	State      string   `json:"state" yaml:"state"`
	Created    string   `json:"created" yaml:"created"`
	ApplyAfter string   `json:"apply_after" yaml:"apply_after"`
	Expires    string   `json:"expires" yaml:"expires"`
	Tenant     string   `json:"tenant,omitempty" yaml:"tenant,omitempty"`
	Selectors  []string `json:"selectors" yaml:"selectors"`
	Details    string   `json:"details,omitempty" yaml:"details,omitempty"`
}

// requests lists the requests of the bucket, or only one of them.
func (c *deleteSeriesConfig) requests(ctx context.Context, s streams, bkt bucket.Bucket, now time.Time, only ulid.ULID) error {
	entries, err := deletion.NewPoller(bkt, nil, nil).Poll(ctx)
	if err != nil {
		return err
	}
	r := report{header: []string{"REQUEST", "STATE", "APPLIES AFTER", "EXPIRES", "SELECTORS"}}
	rows := []requestRow{}
	for _, e := range entries {
		if !only.IsZero() && e.ID != only {
			continue
		}
		row := requestRow{
			Request: e.ID.String(), State: string(e.StateAt(now)), Created: stampOf(e.Created), ApplyAfter: stampOf(e.ApplyAfter),
			Expires: stampOf(e.Expires), Tenant: e.Tenant, Selectors: e.Selectors, Details: e.Details,
		}
		rows = append(rows, row)
		r.cells = append(r.cells, []string{row.Request, row.State, row.ApplyAfter, row.Expires, fmt.Sprint(row.Selectors)})
	}
	r.list = rows
	return r.print(s.out, c.output)
}

func stampOf(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// leftRow is a place that has samples of a request.
type leftRow struct {
	// Place is block, head log, receiver or store gateway.
	Place string `json:"place" yaml:"place"`
	// Name is that of a block or a node, or the directory of a head log.
	Name       string `json:"name" yaml:"name"`
	Resolution string `json:"resolution,omitempty" yaml:"resolution,omitempty"`
	Series     uint64 `json:"series,omitempty" yaml:"series,omitempty"`
	// Samples are about as many, by the share of the chunks.
	Samples uint64 `json:"samples,omitempty" yaml:"samples,omitempty"`
	Left    string `json:"left" yaml:"left"`
}

// noRequest returns the error of a flag that names a request which the bucket does not have,
// or another error as it is.
func noRequest(flag string, id ulid.ULID, err error) error {
	if errors.Is(err, bucket.ErrNotFound) {
		return flags.Invalid(fmt.Errorf("%s=%s: the bucket has no such deletion request", flag, id))
	}
	return err
}

func printLeft(s streams, output string, rows []leftRow) error {
	r := report{header: []string{"PLACE", "NAME", "RESOLUTION", "SERIES", "SAMPLES", "LEFT"}, list: rows}
	for _, row := range rows {
		r.cells = append(r.cells, []string{row.Place, row.Name, row.Resolution, fmt.Sprint(row.Series), fmt.Sprint(row.Samples), row.Left})
	}
	return r.print(s.out, output)
}

// blocks returns the blocks of the bucket that have samples of a request, the oldest
// first. The error joins those of single blocks.
func (c *deleteSeriesConfig) blocks(ctx context.Context, s streams, p *process, bkt bucket.Bucket, r *deletion.Compiled) ([]leftRow, error) {
	rows := []leftRow{}
	v, err := poll(ctx, p, bkt, 0)
	if err != nil {
		return rows, err
	}
	ids := make([]ulid.ULID, 0, len(v.Metas))
	for id := range v.Metas {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b ulid.ULID) int {
		return cmp.Or(cmp.Compare(v.Metas[a].MinTime, v.Metas[b].MinTime), a.Compare(b))
	})
	pr := newProgress(s)
	defer pr.end()
	var errs []error
	for i, id := range ids {
		pr.show(i, len(ids), "blocks searched")
		if ctx.Err() != nil {
			return rows, errors.Join(append(errs, ctx.Err())...)
		}
		row, found, err := c.block(ctx, bkt, v, v.Metas[id], r)
		if err != nil {
			errs = append(errs, err)
			if failsForAll(err) {
				break
			}
		} else if found {
			rows = append(rows, row)
		}
	}
	return rows, errors.Join(errs...)
}

// block counts the series of a request in one block.
func (c *deleteSeriesConfig) block(ctx context.Context, bkt bucket.Bucket, v *blocklist.View, m *block.Meta, r *deletion.Compiled) (leftRow, bool, error) {
	res := m.Resolution()
	scope := deletion.NewSet(r).For(deletion.Target{External: m.ExternalLabels(), MinTime: m.MinTime - res, MaxTime: m.MaxTime + res})
	if scope == nil {
		return leftRow{}, false, nil
	}
	got, err := blockscan.Scan(ctx, bkt, m, v.Sizes[m.ULID][block.IndexFile], blockscan.Query{
		Matchers: scope.Matchers(),
		Deleted:  func(l labels.Labels) tombstones.Intervals { return chunkmask.Widen(scope.Deleted(l), res) },
	})
	if err != nil || got.Series == 0 {
		return leftRow{}, false, err
	}
	row := leftRow{
		Place: "block", Name: m.ULID.String(), Resolution: plan.ResolutionName(res), Series: got.Series,
		Samples: uint64(float64(m.Stats.NumSamples) * float64(got.Chunks) / float64(max(m.Stats.NumChunks, 1))),
		Left:    "to be rewritten by the compactor",
	}
	if mark := v.Deletion[m.ULID]; mark != nil {
		row.Left = "marked for deletion, goes after " + stampOf(mark.Since(v.Marked[m.ULID]).Add(c.deletesAfter.Duration()))
	}
	return row, true, nil
}
