package store

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

const component = "store"

// announcedAhead is how much more than it serves a gateway announces whose --max-time
// moves with the clock: queriers go by the last answer, which is some seconds old.
const announcedAhead = time.Minute

// Info describes the blocks of the last listing, within the times that are served now.
func (g *Gateway) Info() storeapi.Info {
	var listed []storeapi.TSDBInfo
	if l := g.listed.Load(); l != nil {
		listed = *l
	}
	return makeInfo(g.cfg, listed, time.Now())
}

// makeInfo summarises the ranges of blocks that contiguous returned.
func makeInfo(cfg Config, listed []storeapi.TSDBInfo, now time.Time) storeapi.Info {
	info := storeapi.Info{
		Component:                    component,
		MinTime:                      math.MaxInt64,
		MaxTime:                      math.MinInt64,
		TSDBs:                        make([]storeapi.TSDBInfo, 0, len(listed)),
		SupportsSharding:             true,
		SupportsWithoutReplicaLabels: true,
		SupportsSortWithout:          true,
	}
	mint, maxt := cfg.MinTime.Millis(now), cfg.MaxTime.Millis(now)
	if cfg.MaxTime.Relative() {
		maxt += announcedAhead.Milliseconds()
	}
	for _, r := range listed {
		if r.MinTime > maxt || r.MaxTime < mint {
			continue
		}
		r.MinTime, r.MaxTime = max(r.MinTime, mint), min(r.MaxTime, maxt)
		info.TSDBs = append(info.TSDBs, r)
		info.MinTime, info.MaxTime = min(info.MinTime, r.MinTime), max(info.MaxTime, r.MaxTime)
		if n := len(info.LabelSets); n == 0 || !labels.Equal(info.LabelSets[n-1], r.Labels) {
			info.LabelSets = append(info.LabelSets, r.Labels)
		}
	}
	return info
}

// contiguous joins, for each set of external labels, the ranges of blocks that touch or
// overlap, whatever their resolution. The result is sorted by labels and time;
// its bounds are inclusive.
func contiguous(serve map[ulid.ULID]*block.Meta) []storeapi.TSDBInfo {
	all := make([]storeapi.TSDBInfo, 0, len(serve))
	for _, m := range serve {
		// The end of a block is exclusive.
		all = append(all, storeapi.TSDBInfo{Labels: m.ExternalLabels(), MinTime: m.MinTime, MaxTime: m.MaxTime - 1})
	}
	slices.SortFunc(all, func(a, b storeapi.TSDBInfo) int {
		return cmp.Or(labels.Compare(a.Labels, b.Labels), cmp.Compare(a.MinTime, b.MinTime))
	})
	out := all[:0]
	for _, r := range all {
		if n := len(out); n > 0 && labels.Equal(out[n-1].Labels, r.Labels) && r.MinTime <= out[n-1].MaxTime+1 {
			out[n-1].MaxTime = max(out[n-1].MaxTime, r.MaxTime)
			continue
		}
		out = append(out, r)
	}
	return slices.Clip(out)
}
