package fanout

import (
	"context"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Info combines the announcements of the stores.
func (s *Store) Info() storeapi.Info { return s.infoWithout(nil) }

// InfoTo is Info for the client of a request: what the store would learn from the
// client itself, or from a querier on the way, is left out; see storeapi.Hops.
func (s *Store) InfoTo(ctx context.Context) storeapi.Info { return s.infoWithout(storeapi.Hops(ctx)) }

// infoWithout joins what the stores announce, each TSDB and label set once. It
// leaves out the stores whose instance is one of hops: the client, or a querier on
// the way. When no store has a time range, the range is all time.
func (s *Store) infoWithout(hops []string) storeapi.Info {
	info := storeapi.Info{
		Component:                    s.cfg.Component,
		MinTime:                      math.MaxInt64,
		MaxTime:                      math.MinInt64,
		SupportsSharding:             true,
		SupportsWithoutReplicaLabels: true,
		SupportsSortWithout:          true,
	}
	unknown := false
	sets, tsdbs := map[string]bool{}, map[tsdbKey]bool{}
	for _, st := range s.stores() {
		in := st.Info()
		if in.NoStore || in.Instance != "" && slices.Contains(hops, in.Instance) {
			continue
		}
		unknown = unknown || in.Unknown
		info.MinTime = min(info.MinTime, in.MinTime)
		info.MaxTime = max(info.MaxTime, in.MaxTime)
		// Several queriers may announce the same.
		for _, t := range in.TSDBs {
			key := tsdbKey{string(t.Labels.Bytes(nil)), t.MinTime, t.MaxTime}
			if !tsdbs[key] {
				tsdbs[key] = true
				info.TSDBs = append(info.TSDBs, t)
			}
		}
		for _, ls := range in.LabelSets {
			ls = s.withSelector(ls)
			if key := string(ls.Bytes(nil)); !sets[key] {
				sets[key] = true
				info.LabelSets = append(info.LabelSets, ls)
			}
		}
	}
	if unknown {
		// A client that chose by the labels of the others would not learn that a
		// store is missing here.
		info.LabelSets = nil
	}
	if info.MinTime > info.MaxTime {
		info.MinTime, info.MaxTime = math.MinInt64, math.MaxInt64
	}
	if len(info.LabelSets) == 0 && !s.cfg.SelectorLabels.IsEmpty() {
		info.LabelSets = []labels.Labels{s.cfg.SelectorLabels}
	}
	return info
}

type tsdbKey struct {
	labels     string
	mint, maxt int64
}
