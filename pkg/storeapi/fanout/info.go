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
		for _, t := range withUnknown(in) {
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

// withUnknown returns the TSDBs of a store. The label sets of a store that announces
// none are those of its data, but the ones of a querier may have labels that no series
// has; where no TSDB explains them, one without labels says that any may occur.
func withUnknown(in storeapi.Info) []storeapi.TSDBInfo {
	out, unknown := in.TSDBs, len(in.LabelSets)+len(in.TSDBs) == 0
	known := partsOf(in.TSDBs)
	for _, ls := range in.LabelSets {
		switch explained := known.partOf(ls); {
		case explained:
		case in.Component == "query" || in.Component == "":
			unknown = true
		default:
			out = append(out[:len(out):len(out)], storeapi.TSDBInfo{Labels: ls, MinTime: in.MinTime, MaxTime: in.MaxTime})
		}
	}
	if unknown {
		out = append(out[:len(out):len(out)], storeapi.TSDBInfo{MinTime: in.MinTime, MaxTime: in.MaxTime})
	}
	return out
}

type tsdbKey struct {
	labels     string
	mint, maxt int64
}
