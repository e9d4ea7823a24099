package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

// expiredList has the series that retention rules remove from blocks. Nil has none.
type expiredList struct {
	v *blocklist.View
	// removals has the blocks with such series.
	removals map[ulid.ULID]compact.RuleRemoval
}

// lookForExpired counts the series of the chosen blocks that are out of the retention of
// their rules, as the compactor does before it rewrites a block. It reads the index of each
// block that may have some, one after the other. The error joins those of single blocks;
// the list has the others.
func (ch *choice) lookForExpired(ctx context.Context, s streams, bkt bucket.Reader, v *blocklist.View, now time.Time) (*expiredList, error) {
	l := &expiredList{v: v, removals: map[ulid.ULID]compact.RuleRemoval{}}
	expired := plan.SeriesOutOfRetention(compact.PlanView(v), ch.policy, now)
	pr := newProgress(s)
	defer pr.end()
	var errs []error
	for i, id := range slices.SortedFunc(maps.Keys(expired), ulid.ULID.Compare) {
		if ctx.Err() != nil {
			return l, errors.Join(append(errs, ctx.Err())...)
		}
		pr.show(i, len(expired), "blocks searched for series out of retention")
		m := v.Metas[id]
		if !ch.policy.Owns(m) {
			continue
		}
		r, err := compact.RemovedByRules(ctx, bkt, m, v.Sizes[id][block.IndexFile], expired[id])
		if err != nil {
			errs = append(errs, err)
		} else if r.Series > 0 {
			l.removals[id] = r
		}
	}
	return l, errors.Join(errs...)
}

// rewrites are the blocks that the compactor rewrites for the rules, as for plan.View.
func (l *expiredList) rewrites() map[ulid.ULID]string {
	out := map[ulid.ULID]string{}
	for id, r := range l.removals {
		if r.Share >= compact.MinExpiredShare {
			out[id] = "it has series out of retention"
		}
	}
	return out
}

// rows lists the blocks with a row for each rule, and says when the compactor removes the
// series, by a plan with the rewrites.
func (l *expiredList) rows(p *plan.Plan) []changeRow {
	if l == nil {
		return nil
	}
	planned, why := map[ulid.ULID]bool{}, map[ulid.ULID]string{}
	for i := range p.Jobs {
		if j := &p.Jobs[i]; j.Kind == plan.Rewrite {
			planned[j.Blocks[0]] = true
		}
	}
	for _, s := range p.Skipped {
		why[s.Block] = s.Details
	}
	var rows []changeRow
	for _, id := range slices.SortedFunc(maps.Keys(l.removals), ulid.ULID.Compare) {
		r, m := l.removals[id], l.v.Metas[id]
		result := "left to the compactor"
		switch {
		case r.Share < compact.MinExpiredShare:
			result = fmt.Sprintf("kept: the compactor rewrites a block from %.0f%% of its chunks on", 100*compact.MinExpiredShare)
		case !planned[id]:
			result = "kept: " + cmp.Or(why[id], "the block has another job first")
		}
		for _, rule := range slices.Sorted(maps.Keys(r.ByRule)) {
			share := r.ByRule[rule]
			rows = append(rows, changeRow{
				Block: id.String(), Job: string(plan.Rewrite), Rule: rule, Series: share.Series, Bytes: int64(share.Share * float64(l.v.Bytes(id))),
				Reason: fmt.Sprintf("%d of %d series are out of the %s retention of the rule, %.1f%% of the chunks",
					share.Series, m.Stats.NumSeries, plan.ResolutionName(m.Resolution()), 100*share.Share),
				Result: result,
			})
		}
	}
	return rows
}
