package compact

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// clockObject is written to learn the time of the bucket. Readers of the bucket ignore
// it, because its name is not that of a block.
const clockObject = "hindsight/compactor-clock"

// writeError is the error of a refused write.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// bucketTime returns the time by the clock of the bucket, by which the ages of its
// objects are measured: a compactor whose clock is ahead must not delete too early. If
// the bucket reports no times it returns the local time.
func (c *Compactor) bucketTime(ctx context.Context) (time.Time, error) {
	start := time.Now()
	const content = "compactor"
	if err := c.bkt.Upload(ctx, clockObject, strings.NewReader(content), int64(len(content))); err != nil {
		return start, &writeError{fmt.Errorf("write %s to read the time of the bucket: %w", clockObject, err)}
	}
	o, err := c.bkt.Stat(ctx, clockObject)
	if err != nil {
		return start, fmt.Errorf("stat %s to read the time of the bucket: %w", clockObject, err)
	}
	if o.LastModified.IsZero() {
		return start, nil
	}
	return o.LastModified, nil
}

// look polls the bucket and plans. No job takes the skipped blocks. Without writes the clock
// of the bucket is unknown, and a full bucket needs space: then deletion marks count from
// the times in them.
func (c *Compactor) look(ctx context.Context, now time.Time, writable bool, skipped map[ulid.ULID]string) (plan.Plan, error) {
	v, err := c.poller.Poll(ctx)
	if err != nil {
		return plan.Plan{}, err
	}
	c.seen.Store(v)
	c.quarantined.keep(v.Metas)
	local := time.Now()
	pv, policy := c.planInput(v, skipped, local)
	if !writable {
		pv.Marked = nil
	}
	pv.Rewrites = c.survey.run(ctx, v, pv, policy, now).rewrites
	p := plan.Make(pv, policy, now)
	if c.only != nil {
		p.Jobs = slices.DeleteFunc(p.Jobs, func(j plan.Job) bool { return !c.only(&j) })
	}
	c.metrics.progress(&p, v)
	c.progress.set(p, local)
	c.report(p.Skipped)
	return p, nil
}

// planInput is what the planner gets of a view.
func (c *Compactor) planInput(v *blocklist.View, skipped map[ulid.ULID]string, local time.Time) (plan.View, plan.Policy) {
	pv := PlanView(v)
	pv.Quarantined, pv.SkippedInPass = c.quarantined.details(), skipped

	policy := c.policy
	policy.Rules = *c.rules.Load()
	_, foreign := v.Apply(
		blocklist.TimePartition(c.cfg.MinTime.Millis(local), c.cfg.MaxTime.Millis(local)),
		blocklist.Shard(c.selector, policy.ReplicaLabels...),
	)
	policy.Owns = func(m *block.Meta) bool { return foreign[m.ULID] == "" }
	return pv, policy
}

// report counts the blocks with an invalid meta.json and logs each of them once.
func (c *Compactor) report(skipped []plan.Skip) {
	counts := map[reason.Reason]float64{}
	for _, why := range plan.InvalidReasons() {
		counts[why] = 0
	}
	c.reportedMu.Lock()
	defer c.reportedMu.Unlock()
	invalid := make(map[ulid.ULID]badBlock, len(c.reported))
	c.metrics.skippedBlock.Reset()
	for _, s := range skipped {
		if s.Reason == "" {
			continue
		}
		counts[s.Reason]++
		b := badBlock{s.Reason, s.Details, time.Now()}
		if old := c.reported[s.Block]; old.reason == s.Reason {
			b.since = old.since
		} else {
			c.log.Warn("block skipped", "block", s.Block, "reason", s.Reason, "err", s.Details)
		}
		invalid[s.Block] = b
		if len(invalid) <= maxSkippedSeries {
			c.metrics.skippedBlock.WithLabelValues(s.Block.String(), s.Reason.String()).Set(1)
		}
	}
	c.reported = invalid
	c.metrics.skipped.Reset() // of reasons that are gone
	for why, n := range counts {
		c.metrics.skipped.WithLabelValues(why.String()).Set(n)
	}
}

// maxSkippedSeries bounds the series of one metric, because a bucket may have any number
// of blocks with an invalid meta.json.
const maxSkippedSeries = 1000

// withSources makes a block without sources its own source. Otherwise the planner
// could not find its downsampled data and would plan to make it in every pass.
func withSources(metas map[ulid.ULID]*block.Meta) map[ulid.ULID]*block.Meta {
	out := metas
	for id, m := range metas {
		if len(m.Compaction.Sources) > 0 {
			continue
		}
		if len(out) == len(metas) && out[id] == m {
			out = maps.Clone(out)
		}
		c := *m // a shallow copy: no code changes what it points to
		c.Compaction.Sources = []ulid.ULID{id}
		out[id] = &c
	}
	return out
}

// missingFile returns a file that meta.json names and that was not listed, or has another
// size; empty if there is none. The process that wrote the meta.json may have
// been stopped before that for so long that a cleaner has deleted the other objects.
func missingFile(m *block.Meta, sizes map[string]int64) string {
	for _, f := range m.Thanos.Files {
		if f.RelPath == block.MetaFile {
			continue
		}
		if size, ok := sizes[f.RelPath]; !ok || size >= 0 && f.SizeBytes > 0 && size != f.SizeBytes {
			return fmt.Sprintf("%s of %d bytes", f.RelPath, f.SizeBytes)
		}
	}
	return ""
}

// PlanView is a view of the bucket as the planner takes it. A block whose meta.json
// cannot be used is among its partial ones.
func PlanView(v *blocklist.View) plan.View {
	out := plan.View{
		Metas: withSources(v.Metas), Published: v.Published, Marked: v.Marked, Partial: make(map[ulid.ULID]plan.Partial, len(v.Partial)),
		Deletion: v.Deletion, NoCompact: v.NoCompact, NoDownsample: v.NoDownsample, Incomplete: map[ulid.ULID]string{},
	}
	for id, m := range v.Metas {
		if lacks := missingFile(m, v.Sizes[id]); lacks != "" {
			out.Incomplete[id] = "the bucket has no " + lacks
		}
	}
	for _, bad := range []map[ulid.ULID]blocklist.Partial{v.Partial, v.Unusable} {
		for id, p := range bad {
			out.Partial[id] = plan.Partial{Reason: p.Reason, LastModified: p.LastModified}
		}
	}
	return out
}
