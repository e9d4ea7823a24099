package storeapi

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/limit"
)

// Bounds of the lists of a TSDBStats, as Prometheus has them.
const (
	DefaultTSDBStatusLimit = 10
	MaxTSDBStatusLimit     = 10_000
)

// TSDBStatusRequest asks for statistics of the heads of TSDBs.
type TSDBStatusRequest struct {
	// Limit bounds the length of each list: 1 to MaxTSDBStatusLimit.
	Limit int
	// Matchers choose TSDBs by their external labels; an absent label is the
	// empty string. None chooses all.
	Matchers []*labels.Matcher
	// Partial is the answer to a failure of a part of the stores.
	Partial PartialResponse
	// StoreMatchers select the stores of a fan-out as in a Request. Never sent
	// over the wire.
	StoreMatchers [][]*labels.Matcher
	// Budget bounds the answers of all stores together; nil means no bound but
	// that for each. Never sent over the wire.
	Budget *limit.Budget
}

// TSDBStats are statistics of one head, or of several together.
type TSDBStats struct {
	Series     uint64
	LabelPairs int64
	Chunks     int64
	// MinTime and MaxTime are milliseconds; an empty head has a MinTime after its
	// MaxTime.
	MinTime, MaxTime int64
	// The lists begin with the largest count.
	SeriesByMetric, ValuesByLabel, MemoryByLabel, SeriesByPair []NamedCount
}

// NamedCount is a name, or a label and its value, with a number.
type NamedCount struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
}

// TSDBStatusStore is a source of statistics of TSDBs.
type TSDBStatusStore interface {
	// TSDBStatus returns statistics by tenant; the tenant is empty where there
	// are none. The answer belongs to the caller.
	TSDBStatus(ctx context.Context, r *TSDBStatusRequest) (map[string]TSDBStats, Warnings, error)
}

// ChoosesTSDB reports whether a TSDB with these external labels is asked for.
func (r *TSDBStatusRequest) ChoosesTSDB(ext labels.Labels) bool {
	return !slices.ContainsFunc(r.Matchers, func(m *labels.Matcher) bool { return !m.Matches(ext.Get(m.Name)) })
}

// MergeTSDBStats returns the statistics of all heads together, lists of at most
// limit entries. Counts are added, but the number of values of a label is the
// largest of any head, because heads have the same values. Entries that a list
// lost by its own limit are not in the sum.
func MergeTSDBStats(all []TSDBStats, limit int) TSDBStats {
	out := TSDBStats{MinTime: math.MaxInt64, MaxTime: math.MinInt64}
	largest := func(a, b uint64) uint64 { return max(a, b) }
	var series, values, memory, pairs [][]NamedCount
	for _, s := range all {
		out.Series = addCount(out.Series, s.Series)
		out.LabelPairs = int64(min(math.MaxInt64, addCount(uint64(max(0, out.LabelPairs)), uint64(max(0, s.LabelPairs)))))
		out.Chunks = int64(min(math.MaxInt64, addCount(uint64(max(0, out.Chunks)), uint64(max(0, s.Chunks)))))
		out.MinTime, out.MaxTime = min(out.MinTime, s.MinTime), max(out.MaxTime, s.MaxTime)
		series, values = append(series, s.SeriesByMetric), append(values, s.ValuesByLabel)
		memory, pairs = append(memory, s.MemoryByLabel), append(pairs, s.SeriesByPair)
	}
	out.SeriesByMetric = mergeCounts(series, addCount, limit)
	out.ValuesByLabel = mergeCounts(values, largest, limit)
	out.MemoryByLabel = mergeCounts(memory, addCount, limit)
	out.SeriesByPair = mergeCounts(pairs, addCount, limit)
	return out
}

// addCount adds without overflow: a wrong server must not make the sum small.
func addCount(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

func mergeCounts(lists [][]NamedCount, join func(a, b uint64) uint64, limit int) []NamedCount {
	sums := map[string]uint64{}
	for _, list := range lists {
		for _, c := range list {
			sums[c.Name] = join(sums[c.Name], c.Value)
		}
	}
	out := make([]NamedCount, 0, len(sums))
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		out = append(out, NamedCount{Name: name, Value: sums[name]})
	}
	slices.SortStableFunc(out, func(a, b NamedCount) int { return cmp.Compare(b.Value, a.Value) })
	return out[:min(len(out), limit)]
}
