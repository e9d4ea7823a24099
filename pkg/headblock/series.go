package headblock

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/hindsight-io/hindsight/pkg/limit"
)

// seriesOverhead is the memory of a series beside its labels: entries of the maps and
// slices of this file.
const seriesOverhead = 96

// maxWindows bounds the number of blocks that one head can become. A head with an
// out-of-order window of a month has 360.
const maxWindows = 16384

// noRank marks references without a series, and series without a place in the blocks.
const noRank = int32(-1)

// rebind says that a reference has another series from a record of series on.
type rebind struct {
	record int // the number of the record of series
	ref    chunks.HeadSeriesRef
	series int32
}

// table has the series of a head. The rank of a series is its place in the order of
// labels.
type table struct {
	labels  []labels.Labels // by rank
	refs    refs
	rebinds []rebind
	stones  map[int32]tombstones.Intervals // by rank
	symbols []string                       // sorted
	// needed has the references, with their rank, whose head chunks have samples that
	// the logs lack.
	needed  map[chunks.HeadSeriesRef]int32
	windows []int64 // starts of the windows that have samples, ascending
	bytes   int64   // memory of the table
	unknown int64   // samples whose reference has no series
	loss    Loss
}

// tableBuilder reads the series of a head.
type tableBuilder struct {
	cfg    *Config
	labels []labels.Labels
	dead   []bool
	// byHash has the newest living series of each hash; more has the others.
	byHash  map[uint64]int32
	more    map[uint64][]int32
	byRef   map[chunks.HeadSeriesRef]int32
	rebound map[chunks.HeadSeriesRef]int32
	rebinds []rebind
	stones  map[int32]tombstones.Intervals
	windows map[int64]struct{}
	chunks  map[chunks.HeadSeriesRef]*chunkCount
	records int
	bytes   int64
	unknown int64
	loss    Loss
}

// readTable is the first pass over the logs.
func readTable(ctx context.Context, cfg *Config, dec *decoder) (*table, error) {
	b := &tableBuilder{
		cfg: cfg, byHash: map[uint64]int32{}, more: map[uint64][]int32{}, byRef: map[chunks.HeadSeriesRef]int32{},
		rebound: map[chunks.HeadSeriesRef]int32{}, stones: map[int32]tombstones.Intervals{}, windows: map[int64]struct{}{},
		chunks: map[chunks.HeadSeriesRef]*chunkCount{},
	}
	if err := b.countChunks(ctx); err != nil {
		return nil, fmt.Errorf("read chunks of the head: %w", err)
	}
	loss, err := dec.read(ctx, cfg.Source, handler{
		series: b.addSeries, stones: b.addStones,
		samples: func(s sample) error {
			if !b.known(s.ref) || !cfg.wanted(s.t) {
				return nil
			}
			b.countLog(s, false)
			return b.addWindow(s.t)
		},
		late: func(s sample) error {
			if !b.known(s.ref) {
				return nil
			}
			b.countLog(s, true)
			return b.addWindow(s.t)
		},
	})
	b.loss.add(loss)
	if err != nil {
		return nil, fmt.Errorf("read series of the head: %w", err)
	}
	needed := b.chunksNeeded()
	if err := b.addChunkWindows(ctx, needed); err != nil {
		return nil, fmt.Errorf("read chunks of the head: %w", err)
	}
	t, rank := b.table()
	t.needed = needed
	for ref, s := range needed {
		needed[ref] = rank[s]
	}
	return t, nil
}

// known counts the samples whose reference has no series.
func (b *tableBuilder) known(ref chunks.HeadSeriesRef) bool {
	_, ok := b.find(ref)
	if !ok {
		b.unknown++
	}
	return ok
}

func (b *tableBuilder) find(ref chunks.HeadSeriesRef) (int32, bool) {
	if len(b.rebound) > 0 {
		if s, ok := b.rebound[ref]; ok {
			return s, true
		}
	}
	s, ok := b.byRef[ref]
	return s, ok
}

func (b *tableBuilder) addWindow(t int64) error {
	w := b.cfg.window(t)
	if _, ok := b.windows[w]; ok {
		return nil
	}
	if len(b.windows) == maxWindows {
		return fmt.Errorf("the head has samples of more than %d windows of %s; its timestamps are not plausible", maxWindows, b.cfg.BlockRange)
	}
	b.windows[w] = struct{}{}
	return nil
}

// addSeries takes one record of series. A reference whose labels exist already, under
// another reference, belongs to the existing series.
func (b *tableBuilder) addSeries(recs []record.RefSeries) error {
	b.records++
	for _, r := range recs {
		if err := checkLabels(r.Labels); err != nil {
			b.loss.note(0, "series %d: %v", r.Ref, err)
			continue
		}
		s, ok := b.living(r.Labels)
		if !ok {
			s = int32(len(b.labels))
			b.bytes += int64(r.Labels.ByteSize()) + seriesOverhead
			if b.bytes > b.cfg.Memory {
				return &limit.Error{
					What: "bytes of memory", Flag: b.cfg.MemoryFlag, Max: b.cfg.Memory, Needed: b.bytes,
					Detail: fmt.Sprintf("labels of the first %d series of the head", len(b.labels)+1),
				}
			}
			b.labels, b.dead = append(b.labels, r.Labels), append(b.dead, false)
			b.index(r.Labels.Hash(), s)
		}
		b.bind(r.Ref, s)
	}
	return nil
}

func (b *tableBuilder) bind(ref chunks.HeadSeriesRef, s int32) {
	old, ok := b.find(ref)
	switch {
	case !ok:
		b.byRef[ref] = s
	case old != s:
		b.rebound[ref] = s
		b.rebinds = append(b.rebinds, rebind{record: b.records, ref: ref, series: s})
	}
}

// living returns the series with these labels that was not deleted.
func (b *tableBuilder) living(l labels.Labels) (int32, bool) {
	h := l.Hash()
	s, ok := b.byHash[h]
	if ok && !b.dead[s] && labels.Equal(b.labels[s], l) {
		return s, true
	}
	for _, s := range b.more[h] {
		if !b.dead[s] && labels.Equal(b.labels[s], l) {
			return s, true
		}
	}
	return 0, false
}

func (b *tableBuilder) index(h uint64, s int32) {
	if old, ok := b.byHash[h]; ok && !b.dead[old] {
		b.more[h] = append(b.more[h], s)
		return
	}
	b.byHash[h] = s
}

// addStones takes the intervals of deleted samples. An interval of all times deletes
// the series: Prometheus wrote its samples into a block, and a later record of the same
// labels begins a new series.
func (b *tableBuilder) addStones(stones []tombstones.Stone) error {
	for _, st := range stones {
		s, ok := b.find(chunks.HeadSeriesRef(st.Ref))
		if !ok || b.dead[s] {
			continue
		}
		for _, iv := range st.Intervals {
			if iv.Mint == math.MinInt64 && iv.Maxt == math.MaxInt64 && len(st.Intervals) == 1 {
				b.dead[s] = true
				delete(b.stones, s)
				continue
			}
			// As in Prometheus, an interval that is over when the log's time begins does
			// not delete out-of-order samples, which may have come after it.
			if iv.Maxt >= b.cfg.MinTime {
				b.stones[s] = b.stones[s].Add(iv)
			}
		}
	}
	return nil
}

// table sorts the series. It also returns the rank of each series.
func (b *tableBuilder) table() (*table, []int32) {
	order := make([]int32, 0, len(b.labels))
	for s := range b.labels {
		if !b.dead[s] {
			order = append(order, int32(s))
		}
	}
	slices.SortFunc(order, func(x, y int32) int { return labels.Compare(b.labels[x], b.labels[y]) })
	rank := make([]int32, len(b.labels))
	for s := range rank {
		rank[s] = noRank
	}
	t := &table{
		labels: make([]labels.Labels, len(order)), stones: map[int32]tombstones.Intervals{}, bytes: b.bytes,
		unknown: b.unknown, loss: b.loss,
	}
	symbols := map[string]struct{}{}
	for r, s := range order {
		t.labels[r], rank[s] = b.labels[s], int32(r)
		t.labels[r].Range(func(l labels.Label) {
			symbols[l.Name], symbols[l.Value] = struct{}{}, struct{}{}
		})
		if ivs, ok := b.stones[s]; ok {
			t.stones[int32(r)] = ivs
		}
	}
	for s := range symbols {
		t.symbols = append(t.symbols, s)
		t.bytes += 16
	}
	slices.Sort(t.symbols)
	for w := range b.windows {
		t.windows = append(t.windows, w)
	}
	slices.Sort(t.windows)
	for _, r := range b.rebinds {
		t.rebinds = append(t.rebinds, rebind{record: r.record, ref: r.ref, series: rank[r.series]})
	}
	t.refs = newRefs(b.byRef, rank)
	return t, rank
}

// checkLabels refuses labels that no index can have.
func checkLabels(l labels.Labels) error {
	if l.IsEmpty() {
		return fmt.Errorf("it has no labels")
	}
	last := ""
	return l.Validate(func(l labels.Label) error {
		if l.Name <= last || l.Value == "" {
			return fmt.Errorf("label %q is out of order or empty", l.Name)
		}
		last = l.Name
		return nil
	})
}

// refs finds the rank of a reference. Prometheus counts references up, so that they
// are dense and a slice serves; a map serves otherwise.
type refs struct {
	first chunks.HeadSeriesRef
	dense []int32
	other map[chunks.HeadSeriesRef]int32
}

func newRefs(byRef map[chunks.HeadSeriesRef]int32, rank []int32) refs {
	lo, hi := chunks.HeadSeriesRef(math.MaxUint64), chunks.HeadSeriesRef(0)
	for ref := range byRef {
		lo, hi = min(lo, ref), max(hi, ref)
	}
	if len(byRef) == 0 {
		return refs{}
	}
	if uint64(hi-lo) >= 8*uint64(len(byRef))+1024 {
		other := make(map[chunks.HeadSeriesRef]int32, len(byRef))
		for ref, s := range byRef {
			other[ref] = rank[s]
		}
		return refs{other: other}
	}
	out := refs{first: lo, dense: make([]int32, hi-lo+1)}
	for i := range out.dense {
		out.dense[i] = noRank
	}
	for ref, s := range byRef {
		out.dense[ref-lo] = rank[s]
	}
	return out
}

func (r *refs) rank(ref chunks.HeadSeriesRef) int32 {
	if r.other != nil {
		if rank, ok := r.other[ref]; ok {
			return rank
		}
		return noRank
	}
	if i := uint64(ref - r.first); i < uint64(len(r.dense)) {
		return r.dense[i]
	}
	return noRank
}
