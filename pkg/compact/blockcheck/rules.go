package blockcheck

import (
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/dedup"
)

// samples compares the samples of a series before and after a merge.
func (w *Worker) samples(series uint64, in []Input, out []Chunk) error {
	for i := range in {
		if !chunkenc.IsValidEncoding(in[i].Encoding) {
			return mismatch("chunks of aggregates are not those of the sources, %d of %d", len(w.out), len(w.in))
		}
	}
	in = w.inOrder(in)
	if err := w.decode(in, out, w.c.cfg.Mode == Full || series%decodeShare == 0); err != nil {
		return err
	}
	for i := 1; i < len(w.result.T); i++ {
		if w.result.T[i] <= w.result.T[i-1] {
			return mismatch("%s follows one at %d", w.result.describe(i), w.result.T[i-1])
		}
	}
	if w.c.cfg.Func == dedup.FuncCoverage && len(w.columns) > 1 {
		return w.coverage(in)
	}
	return w.union()
}

// decode fills the columns, in the order of the sources: one for each source, or one for
// all of them where every sample counts.
func (w *Worker) decode(in []Input, out []Chunk, exactly bool) error {
	columns := w.columns[:0]
	for i := range in {
		c, n := &in[i], 0
		if w.c.cfg.Func == dedup.FuncCoverage {
			n = c.Source
		}
		k := slices.IndexFunc(columns, func(col column) bool { return col.source == n })
		if k < 0 {
			k = len(columns)
			if k < cap(columns) {
				columns = columns[:k+1]
			} else {
				columns = append(columns, column{})
			}
			columns[k].reset(n)
		}
		if err := w.decoder.append(&columns[k], &c.Chunk, exactly); err != nil {
			return fmt.Errorf("decode chunk %d of the sources: %w", i+1, err)
		}
	}
	slices.SortFunc(columns, func(a, b column) int { return a.source - b.source })
	w.columns = columns
	for i := range w.columns {
		w.columns[i].sort()
	}
	w.result.reset(0)
	for i := range out {
		first := w.result.Len()
		if err := w.decoder.append(&w.result, &out[i], exactly); err != nil {
			return mismatch("chunk %d of the result cannot be decoded: %v", i+1, err)
		}
		t := w.result.T[first:]
		// A chunk of a source is passed on with its times, which may be wider.
		if len(t) == 0 || t[0] < out[i].MinTime || t[len(t)-1] > out[i].MaxTime {
			return mismatch("chunk %d of the result has samples before %d or after %d, its times in the index", i+1, out[i].MinTime, out[i].MaxTime)
		}
	}
	return nil
}

// group is the samples of a column at one time, from position from up to, excluding, to.
type group struct {
	from, to int
	// disputed says that two sources of equal labels had different values at this time,
	// or at one so little before it that only one of them counts.
	disputed bool
}

// groups walks over the groups of a column.
type groups struct {
	*column
	group
	any  bool // a dispute was seen
	last int64
}

// next moves to the next group and says whether there is one.
func (g *groups) next() bool {
	g.from = g.to
	if g.from >= len(g.T) {
		return false
	}
	t := g.T[g.from]
	for g.to++; g.to < len(g.T) && g.T[g.to] == t; g.to++ {
		if g.differs(g.to) {
			g.any, g.last = true, t
		}
	}
	g.disputed = g.any && g.last >= t-dedup.Lead
	return true
}

// has says whether the group has a sample with the value v.
func (g *groups) has(v float64) bool {
	for i := g.from; i < g.to; i++ {
		if math.Float64bits(g.V[i]) == math.Float64bits(v) {
			return true
		}
	}
	return false
}

// stale says whether all samples of the group are stale markers.
func (g *groups) stale() bool {
	for i := g.from; i < g.to; i++ {
		if !g.column.stale(i) {
			return false
		}
	}
	return true
}

// union demands one sample of the result at each time of the sources, with a value that
// one of them has, and no others. Only where sources have different values at one time
// may some be missing, see dedup.Union.
func (w *Worker) union() error {
	k, res := 0, &w.result
	for g := (groups{column: &w.columns[0]}); g.next(); {
		t := g.T[g.from]
		if k < len(res.T) && res.T[k] < t {
			return mismatch("no source has the %s", res.describe(k))
		}
		switch {
		case k < len(res.T) && res.T[k] == t:
			if !g.has(res.V[k]) {
				return mismatch("no source has the %s, but a %s", res.describe(k), g.describe(g.from))
			}
			k++
		case !g.disputed:
			return mismatch("the %s is missing", g.describe(g.from))
		}
	}
	if k < len(res.T) {
		return mismatch("no source has the %s", res.describe(k))
	}
	return nil
}

// coarseCoverage demands that each sample of the result is one of a source, and that every
// sample of the first source, except stale markers, is in the result. For the others see
// holes.
func (w *Worker) coarseCoverage() error {
	res := &w.result
	walks := make([]groups, len(w.columns))
	live := make([]bool, len(w.columns))
	for i := range walks {
		walks[i] = groups{column: &w.columns[i]}
		live[i] = walks[i].next()
	}
	// pass moves source i to the first sample at or after t.
	pass := func(i int, t int64) error {
		for g := &walks[i]; live[i] && g.T[g.from] < t; live[i] = g.next() {
			if i == 0 && !g.disputed && !g.stale() {
				return mismatch("the %s of the first replica is missing", g.describe(g.from))
			}
		}
		return nil
	}
	for k, t := range res.T {
		found := false
		for i := range walks {
			if err := pass(i, t); err != nil {
				return err
			}
			g := &walks[i]
			if !live[i] || g.T[g.from] != t {
				continue
			}
			has := g.has(res.V[k])
			found = found || has
			if i == 0 && !has && !g.disputed && !g.stale() {
				return mismatch("the result has the %s, the first replica the %s", res.describe(k), g.describe(g.from))
			}
			live[i] = g.next()
		}
		if !found {
			return mismatch("no replica has the %s", res.describe(k))
		}
	}
	for i := range walks {
		if err := pass(i, math.MaxInt64); err != nil {
			return err
		}
	}
	return w.holes()
}

const (
	// nearSamples is how many samples on each side of a hole tell the interval there.
	nearSamples = 16
	// holeSteps is the distance from the edges of a hole, in intervals, from which on a
	// sample of a replica must fill it. The merge fills holes of 1.5 intervals; this bound
	// is larger, because the interval is estimated in another way.
	holeSteps = 2
)

// holes demands that no replica has a sample in the middle of a hole of the result.
func (w *Worker) holes() error {
	for i := range w.columns {
		if w.columns[i].Len() < nearSamples {
			return nil // too few to know the interval
		}
	}
	for i := range w.columns[1:] {
		c, k := &w.columns[i+1], 0
		for n, t := range c.T {
			for k < len(w.result.T) && w.result.T[k] < t {
				k++
			}
			before, after := int64(math.MaxInt64), int64(math.MaxInt64)
			if k > 0 {
				before = t - w.result.T[k-1]
			}
			if k < len(w.result.T) {
				after = w.result.T[k] - t
			}
			near := min(before, after)
			if near == 0 || n == 0 || near/holeSteps <= t-c.T[n-1] || c.stale(n) {
				continue // the longest step is no shorter than this one
			}
			if step := w.longestStep(t); near/holeSteps > step {
				return mismatch("the %s of a replica is missing in a hole of the result, although steps of the replicas are at most %d ms there", c.describe(n), step)
			}
		}
	}
	return nil
}

// longestStep is the longest time between two samples of one replica around t.
func (w *Worker) longestStep(t int64) int64 {
	longest := int64(0)
	for i := range w.columns {
		ts := w.columns[i].T
		k, _ := slices.BinarySearch(ts, t)
		from, to := max(0, min(k, len(ts))-nearSamples), min(len(ts), k+nearSamples)
		for j := from + 1; j < to; j++ {
			longest = max(longest, ts[j]-ts[j-1])
		}
	}
	return longest
}
