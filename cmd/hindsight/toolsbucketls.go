package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/template"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"go.yaml.in/yaml/v3"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucketadmin"
	"github.com/hindsight-io/hindsight/pkg/flags"
)

// Forms of lists beside table, json and yaml.
const (
	outputIDs  = ""
	outputWide = "wide"
	outputTSV  = "tsv"
	outputCSV  = "csv"
)

// lsConfig holds the flags of tools bucket ls.
type lsConfig struct {
	tool          toolConfig
	output        string
	excludeDelete bool
	times         timeFlags
	timeout       time.Duration
	selector      selectorFlag
}

// lsCommand adds the command that lists blocks.
func lsCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("ls", "Lists the complete blocks of a bucket, in order of their ULID.")
	var c lsConfig
	c.tool.register(cmd)
	cmd.Flag("output", "Form of the list: empty for ULIDs, wide or table for a table, json for the meta.json of each block, yaml, or a Go template over the meta.json of a block, such as {{.ULID}} {{.Thanos.Labels}}.").
		Short('o').Default(outputIDs).StringVar(&c.output)
	cmd.Flag("exclude-delete", "Leave out the blocks that are marked for deletion.").Default("false").BoolVar(&c.excludeDelete)
	c.times.register(cmd)
	cmd.Flag("timeout", "Longest time of the command; 0s is no bound.").Default("5m").DurationVar(&c.timeout)
	c.selector.register(cmd)
	return command{name: "ls", run: c.run}
}

// timeFlags choose blocks by their times.
type timeFlags struct{ minTime, maxTime flags.TimeOrDuration }

func (f *timeFlags) register(r flags.Registrar) {
	r.Flag("min-time", "Only blocks that end at this time or later: a time (RFC 3339), or a duration relative to now such as -30d.").
		Default("0000-01-01T00:00:00Z").SetValue(&f.minTime)
	r.Flag("max-time", "Only blocks that begin at this time or earlier.").Default("9999-12-31T23:59:59Z").SetValue(&f.maxTime)
}

// millis returns the times in milliseconds.
func (f *timeFlags) millis(now time.Time) (mint, maxt int64) {
	return f.minTime.Millis(now), f.maxTime.Millis(now)
}

// check returns an error for times between which there is no block.
func (f *timeFlags) check() error {
	if mint, maxt := f.millis(time.Now()); mint > maxt {
		return flags.Invalid(fmt.Errorf("--max-time=%s is before --min-time=%s: no block is between them", timeText(maxt), timeText(mint)))
	}
	return nil
}

// selectorFlag chooses blocks by relabelling.
type selectorFlag struct{ config flags.PathOrContent }

func (f *selectorFlag) register(r flags.Registrar) {
	f.config.Register(r, "selector.relabel-config", "relabelling that chooses blocks by their external labels and __block_id (actions keep, drop, hashmod)", true)
}

// filter returns the filter of blocks.
func (f *selectorFlag) filter() (blocklist.Filter, error) {
	rules, err := flags.SelectorRules(&f.config, "blocks")
	return blocklist.Shard(rules), flags.Invalid(err)
}

// run lists the blocks that the flags choose.
func (c *lsConfig) run(ctx context.Context, s streams) error {
	if err := c.times.check(); err != nil {
		return err
	}
	return withTimeout(ctx, c.timeout, func(ctx context.Context) error { return c.list(ctx, s) })
}

// list is run in the time of --timeout.
func (c *lsConfig) list(ctx context.Context, s streams) error {
	shard, err := c.selector.filter()
	if err != nil {
		return err
	}
	tmpl, err := c.template()
	if err != nil {
		return flags.Invalid(fmt.Errorf("--output: %w", err))
	}
	return c.tool.withBucket(ctx, s, func(ctx context.Context, p *process, bkt bucket.Bucket) error {
		v, err := poll(ctx, p, bkt, 0)
		if err != nil {
			return err
		}
		v, _ = v.Apply(blocklist.TimePartition(c.times.millis(time.Now())), shard)
		rows := bucketadmin.Rows(v, nil)
		if c.excludeDelete {
			rows = slices.DeleteFunc(rows, func(r bucketadmin.Row) bool { return slices.Contains(r.Marks, "deletion-mark") })
		}
		return c.print(s.out, v, rows, tmpl)
	})
}

// template returns the template of --output, nil when it names a form.
func (c *lsConfig) template() (*template.Template, error) {
	switch c.output {
	case outputIDs, outputWide, outputTable, outputJSON, outputYAML:
		return nil, nil
	}
	return template.New("output").Parse(c.output)
}

// print writes the list in the form of --output.
func (c *lsConfig) print(w io.Writer, v *blocklist.View, rows []bucketadmin.Row, tmpl *template.Template) error {
	switch c.output {
	case outputIDs:
		for _, r := range rows {
			if _, err := fmt.Fprintln(w, r.ULID); err != nil {
				return err
			}
		}
		return nil
	case outputWide, outputTable:
		r := report{header: bucketadmin.Columns(), cells: bucketadmin.Table(rows)}
		return r.print(w, outputTable)
	}
	for _, r := range rows {
		id, _ := block.ParseID(r.ULID)
		m := v.Metas[id]
		var err error
		switch {
		case tmpl != nil:
			if err = tmpl.Execute(w, m); err == nil {
				_, err = fmt.Fprintln(w)
			} else if exec := (template.ExecError{}); errors.As(err, &exec) {
				err = flags.Invalid(fmt.Errorf("--output: %w", err)) // of a field that meta.json does not have
			}
		case c.output == outputJSON:
			err = writeMetaJSON(w, m)
		default:
			err = writeMetaYAML(w, m)
		}
		if err != nil {
			return fmt.Errorf("print block %s: %w", r.ULID, err)
		}
	}
	return nil
}

func writeMetaJSON(w io.Writer, m *block.Meta) error {
	data, err := m.Encode()
	if err != nil {
		return err
	}
	_, err = w.Write(append(bytes.TrimRight(data, "\n"), '\n'))
	return err
}

// writeMetaYAML writes a meta.json as one YAML document with the same keys.
func writeMetaYAML(w io.Writer, m *block.Meta) error {
	data, err := m.Encode()
	if err != nil {
		return err
	}
	var fields map[string]any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&fields); err != nil {
		return err
	}
	out, err := yaml.Marshal(numbers(fields))
	if err != nil {
		return err
	}
	_, err = w.Write(append([]byte("---\n"), out...))
	return err
}

// numbers replaces the numbers of decoded JSON by integers where they are.
func numbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64() // out of range becomes infinite
		return f
	}
	return v
}

// inspectConfig holds the flags of tools bucket inspect.
type inspectConfig struct {
	tool     toolConfig
	selector flags.LabelSet
	sortBy   []string
	output   string
	timeout  time.Duration
}

// inspectCommand adds the command that prints a table of blocks.
func inspectCommand(group *kingpin.CmdClause) command {
	cmd := group.Command("inspect", "Prints a table of the complete blocks of a bucket.")
	var c inspectConfig
	c.tool.register(cmd)
	cmd.Flag("selector", `Only blocks with this external label, as name="value" (repeatable; a block needs all).`).
		Short('l').PlaceHolder(`<name>="<value>"`).SetValue(&c.selector)
	cmd.Flag("sort-by", "Column to sort by (repeatable; the first is the most significant).").Default("FROM", "UNTIL").
		EnumsVar(&c.sortBy, bucketadmin.Columns()...)
	cmd.Flag("output", "Form of the table: table, tsv, csv, json or yaml.").Default(outputTable).
		EnumVar(&c.output, outputTable, outputTSV, outputCSV, outputJSON, outputYAML)
	cmd.Flag("timeout", "Longest time of the command; 0s is no bound.").Default("5m").DurationVar(&c.timeout)
	return command{name: "inspect", run: c.run}
}

// run prints the rows of the blocks with the labels of --selector, sorted.
func (c *inspectConfig) run(ctx context.Context, s streams) error {
	return withTimeout(ctx, c.timeout, func(ctx context.Context) error { return c.inspect(ctx, s) })
}

// inspect is run in the time of --timeout.
func (c *inspectConfig) inspect(ctx context.Context, s streams) error {
	matchers, err := labelMatchers("--selector", c.selector.Labels().String())
	if err != nil {
		return err
	}
	return c.tool.withBucket(ctx, s, func(ctx context.Context, p *process, bkt bucket.Bucket) error {
		v, err := poll(ctx, p, bkt, 0)
		if err != nil {
			return err
		}
		rows := bucketadmin.Rows(v, matchers)
		if err := bucketadmin.SortRows(rows, c.sortBy); err != nil {
			return flags.Invalid(fmt.Errorf("--sort-by: %w", err))
		}
		r := report{list: rows, header: bucketadmin.Columns(), cells: bucketadmin.Table(rows)}
		if c.output != outputTSV && c.output != outputCSV {
			return r.print(s.out, c.output)
		}
		w := csv.NewWriter(s.out)
		if c.output == outputTSV {
			w.Comma = '\t'
		}
		return w.WriteAll(append([][]string{r.header}, r.cells...))
	})
}
