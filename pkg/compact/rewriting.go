package compact

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/blockrewrite"
	"github.com/hindsight-io/hindsight/pkg/chunkmask"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/deletion"
)

// detailsRewritten is the text in the mark of a rewritten block, as in Thanos.
const detailsRewritten = "block rewritten"

// rewrite carries out a rewrite: it publishes the block without the series and samples
// that have to go, and then marks the block. The result is read once more before its
// upload: it has none of them, and as many samples as the others were.
func (c *Compactor) rewrite(ctx context.Context, j plan.Job, now func() time.Time) error {
	dir, done, err := c.workDir(j)
	if err != nil {
		return err
	}
	defer done()
	inputs, err := c.fetch(ctx, dir, j.Blocks)
	if err != nil {
		return err
	}
	in, out := inputs[0], filepath.Join(dir, "out")
	deleted, entry := c.removals(in.meta)
	res, err := blockrewrite.Rewrite(ctx, in.dir, in.meta, out, blockrewrite.Edits{Deleted: deleted})
	switch {
	case err != nil:
		return fmt.Errorf("rewrite block %s: %w", in.meta.ULID, err)
	case !res.Changed():
		// Its chunks overlap deleted intervals, but have no sample in them.
		c.survey.clean(in.meta.ULID)
		return nil
	case res.Stats.NumSamples == 0 && !keptEmpty(in.meta):
		c.log.Info("no series of block left", "group", j.Group, "block", in.meta.ULID, "series", res.RemovedSeries, "samples", res.RemovedSamples)
		return c.markAll(ctx, j.Blocks, detailsRewritten, now)
	}
	m, err := blockrewrite.Describe(out, in.meta, res.Stats, blockrewrite.Lineage{Source: block.SourceCompactor, Entry: entry, Now: now()})
	if err != nil {
		return err
	}
	if err := blockrewrite.Check(ctx, out, m, deleted); err != nil {
		return err
	}
	if m, err = c.publish(ctx, out, now); err != nil {
		return err
	}
	c.log.Info("rewrote block", "group", j.Group, "block", m.ULID, "source", in.meta.ULID,
		"removed_series", res.RemovedSeries, "removed_samples", res.RemovedSamples, "series", m.Stats.NumSeries, "samples", m.Stats.NumSamples)
	return c.markAll(ctx, j.Blocks, detailsRewritten, now)
}

// removals are what has to go from a block as of the last survey, as a function of the
// labels of a series, and as an entry for meta.json.
func (c *Compactor) removals(m *block.Meta) (func(labels.Labels) tombstones.Intervals, blockrewrite.Entry) {
	f := c.survey.last.Load()
	if f == nil {
		f = &findings{}
	}
	var (
		requests []*deletion.Compiled
		entry    blockrewrite.Entry
	)
	for _, e := range f.entries {
		requests = append(requests, e.Compiled)
	}
	scope := deletion.NewSet(requests...).For(targetOf(m))
	expired := f.expired[m.ULID]
	for _, e := range f.entries {
		if deletion.NewSet(e.Compiled).For(targetOf(m)) == nil {
			continue
		}
		// Without the matchers: they may name what must not be kept.
		entry.Deletions = append(entry.Deletions, blockrewrite.DeletionEntry{
			Intervals: tombstones.Intervals{{Mint: e.MinTime, Maxt: e.MaxTime}}, RequestID: e.ID.String(),
		})
	}
	if expired != nil {
		for _, ms := range expired.Matchers() {
			entry.Deletions = append(entry.Deletions, blockrewrite.DeletionEntry{Matchers: ms, RequestID: "retention: " + expired.Rules()})
		}
	}
	return func(l labels.Labels) tombstones.Intervals {
		out := scope.Deleted(l)
		if expired != nil && expired.Expired(l) {
			out = chunkmask.Add(out, tombstones.Interval{Mint: deletion.Earliest, Maxt: deletion.Latest})
		}
		return out
	}, entry
}
