package compact

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/blockscan"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/deletion"
)

// MinExpiredShare is the share of a block's chunks from which on expired series are
// removed from it: a rewrite reads and writes all of the block.
const MinExpiredShare = 0.05

// RuleRemoval is what the retention rules remove from a block that they do not remove as
// a whole.
type RuleRemoval struct {
	// Series are those of all rules, Share is their share in the chunks of the block,
	// from 0 to 1.
	Series uint64
	Share  float64
	// ByRule are the rules that decide about at least one of the series, by name.
	ByRule map[string]RuleShare
}

// RuleShare is the part of one rule in a RuleRemoval.
type RuleShare struct {
	Series uint64
	Share  float64
}

// RemovedByRules counts the series of a block that are out of the retention of their
// rules. It reads the index, which has size bytes (0 if unknown), with range reads.
func RemovedByRules(ctx context.Context, bkt bucket.Reader, m *block.Meta, size int64, e *plan.ExpiredSeries) (RuleRemoval, error) {
	out := RuleRemoval{ByRule: map[string]RuleShare{}}
	all := float64(max(m.Stats.NumChunks, 1))
	res, err := blockscan.Scan(ctx, bkt, m, size, blockscan.Query{
		Matchers: e.Matchers(), Deleted: allOf(e),
		OnSeries: func(lset labels.Labels, chunks uint64) {
			name, _ := e.Decides(lset)
			r := out.ByRule[name]
			r.Series++
			r.Share += float64(chunks) / all
			out.ByRule[name] = r
		},
	})
	if err != nil {
		return RuleRemoval{}, err
	}
	out.Series, out.Share = res.Series, float64(res.Chunks)/all
	return out, nil
}

// allOf deletes all samples of expired series.
func allOf(e *plan.ExpiredSeries) func(labels.Labels) tombstones.Intervals {
	return func(l labels.Labels) tombstones.Intervals {
		if e.Expired(l) {
			return tombstones.Intervals{{Mint: deletion.Earliest, Maxt: deletion.Latest}}
		}
		return nil
	}
}
