package compact

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

// clockObject is written to learn the time of the bucket. Its name is no
// block's, so that every reader of the bucket passes over it.
const clockObject = "hindsight/compactor-clock"

// writeError says that the bucket did not take a write.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// bucketTime returns the time by the clock of the bucket, against which the
// ages of its objects are measured: a compactor whose own clock is ahead must
// not delete too early. A bucket that does not tell times leaves the own clock.
func (c *Compactor) bucketTime(ctx context.Context) (time.Time, error) {
	start := time.Now()
	const content = "compactor"
	if err := c.bkt.Upload(ctx, clockObject, strings.NewReader(content), int64(len(content))); err != nil {
		return start, &writeError{fmt.Errorf("write %s to learn the time of the bucket: %w", clockObject, err)}
	}
	o, err := c.bkt.Stat(ctx, clockObject)
	if err != nil {
		return start, fmt.Errorf("read %s to learn the time of the bucket: %w", clockObject, err)
	}
	if o.LastModified.IsZero() {
		return start, nil
	}
	return o.LastModified, nil
}

// look polls the bucket and plans. Blocks on the bench wait for the next pass.
func (c *Compactor) look(ctx context.Context, now time.Time, bench map[ulid.ULID]string) (plan.Plan, error) {
	v, err := c.poller.Poll(ctx)
	if err != nil {
		return plan.Plan{}, err
	}
	c.seen.Store(v)
	pv := planView(v)
	pv.Quarantined, pv.Busy = c.quarantined.reasons(), bench

	policy := c.policy
	local := time.Now()
	_, foreign := v.Apply(
		blocklist.TimePartition(c.cfg.MinTime.Millis(local), c.cfg.MaxTime.Millis(local)),
		blocklist.Shard(c.selector, policy.ReplicaLabels...),
	)
	policy.Owns = func(m *block.Meta) bool { return foreign[m.ULID] == "" }
	p := plan.Make(pv, policy, now)
	c.metrics.progress(&p, v)
	c.report(p.Skipped)
	return p, nil
}

// report logs each block once that a person has to look at, and counts them.
func (c *Compactor) report(skipped []plan.Skip) {
	counts := map[string]float64{
		plan.CodeTimes: 0, plan.CodeEmptyRange: 0, plan.CodeTooLong: 0, plan.CodeFuture: 0, plan.CodeResolution: 0,
	}
	c.reportedMu.Lock()
	defer c.reportedMu.Unlock()
	odd := make(map[ulid.ULID]string, len(c.reported))
	for _, s := range skipped {
		if s.Code == "" {
			continue
		}
		counts[s.Code]++
		odd[s.Block] = s.Code
		if c.reported[s.Block] != s.Code {
			c.log.Warn("block is left alone", "block", s.Block, "reason", s.Code, "err", s.Reason)
		}
	}
	c.reported = odd
	for code, n := range counts {
		c.metrics.leftAlone.WithLabelValues(code).Set(n)
	}
}

// withSources makes a block without sources its own source. Otherwise its
// downsampled data could not be told to be there, and would be made for ever.
func withSources(metas map[ulid.ULID]*block.Meta) map[ulid.ULID]*block.Meta {
	out := metas
	for id, m := range metas {
		if len(m.Compaction.Sources) > 0 {
			continue
		}
		if len(out) == len(metas) && out[id] == m {
			out = maps.Clone(out)
		}
		c := *m // nobody changes what it points to
		c.Compaction.Sources = []ulid.ULID{id}
		out[id] = &c
	}
	return out
}

func planView(v *blocklist.View) plan.View {
	out := plan.View{
		Metas: withSources(v.Metas), IndexSize: make(map[ulid.ULID]int64, len(v.Sizes)), Partial: make(map[ulid.ULID]plan.Partial, len(v.Partial)),
		Deletion: v.Deletion, NoCompact: v.NoCompact, NoDownsample: v.NoDownsample,
	}
	for id, sizes := range v.Sizes {
		if size := sizes[block.IndexFile]; size > 0 {
			out.IndexSize[id] = size
		}
	}
	for _, bad := range []map[ulid.ULID]blocklist.Partial{v.Partial, v.Unusable} {
		for id, p := range bad {
			out.Partial[id] = plan.Partial{Reason: p.Reason, LastModified: p.LastModified}
		}
	}
	return out
}
