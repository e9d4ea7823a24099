package dedup

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// Func names a way to merge replicas.
type Func string

const (
	// FuncCoverage follows one replica and fills its holes from the others.
	FuncCoverage Func = "coverage"
	// FuncPenalty merges as Thanos does with this name.
	FuncPenalty Func = "penalty"
	// FuncChain takes every sample of every replica, and one of several with
	// equal timestamps.
	FuncChain Func = "chain"
)

// ParseFunc returns the function with the given name.
func ParseFunc(name string) (Func, error) {
	switch f := Func(name); f {
	case FuncCoverage, FuncPenalty, FuncChain:
		return f, nil
	}
	return "", fmt.Errorf("deduplication function %q is not known (choose %q, %q or %q)", name, FuncCoverage, FuncPenalty, FuncChain)
}

// Lead is how much earlier than the first sample of a result the samples of replicas
// should begin, in milliseconds. The result then does not depend on where a query
// starts, for intervals of up to two minutes.
const Lead = 3 * 60_000

// Replica is one source of the samples of a series: chunks of floats, or any samples.
type Replica struct {
	// Chunks are read within the bounds of the merge. They are in order of time and
	// do not overlap. nil means Samples.
	Chunks  FloatChunks
	Samples chunkenc.Iterator
	// Interval is the time between two samples in milliseconds that is assumed where
	// there are too few samples to learn it from, see Interval; 0 when it is not known.
	Interval int64
	// Floor is the shortest interval that is assumed.
	Floor int64
}

// iterator returns the samples of the replica.
func (r *Replica) iterator(b Bounds) chunkenc.Iterator {
	if r.Chunks != nil {
		return NewFloats(r.Chunks, b, nil)
	}
	return r.Samples
}

// Mode says how the values of a merged series are read, and so what a change of
// replica may do to them.
type Mode uint8

const (
	// Values are those of the replicas.
	Values Mode = iota
	// Counters are adjusted at a change of replica, so that only a reset of a replica
	// is one of the merged series, and that it grows as the replica grew.
	Counters
	// Totals are counters of which the resets have been added up, from wherever each
	// replica begins: the level of a replica means nothing, and none ever falls.
	Totals
	// Changes hides the different values of two replicas that both stay as they are.
	Changes
)

// ModeOf returns how the PromQL function fn reads its input.
func ModeOf(fn string) Mode {
	switch fn {
	case "increase", "rate", "irate", "resets":
		return Counters
	case "changes":
		return Changes
	}
	return Values
}

// Options say how replicas are merged.
type Options struct {
	Mode Mode
	// Bounds are those of the samples that are read.
	Bounds Bounds
	// Lead is how much earlier than the first sample of the result Bounds begin, in
	// milliseconds; 0 means the constant Lead.
	Lead int64
}

// everything are the bounds of all samples.
func everything() Bounds { return Bounds{MinTime: math.MinInt64, MaxTime: math.MaxInt64} }

// Merge merges the replicas by f. It prefers the first replica, so the caller
// orders them by their labels. It returns a single replica unchanged, and an empty
// series for none. The result owns the iterators.
func (f Func) Merge(replicas []Replica, o Options) chunkenc.Iterator {
	switch {
	case len(replicas) == 0:
		return chunkenc.NewNopIterator()
	case len(replicas) == 1:
		return replicas[0].iterator(o.Bounds)
	case f == FuncCoverage:
		m := &merged{}
		m.c.reset(replicas, o, false)
		return m
	}
	its := make([]chunkenc.Iterator, len(replicas))
	for i := range replicas {
		its[i] = replicas[i].iterator(o.Bounds)
	}
	if f == FuncChain {
		return chain(its)
	}
	return penalty(its, o.Mode == Counters || o.Mode == Totals)
}

// Samples are samples as columns, in strictly ascending order of time.
type Samples struct {
	T []int64
	V []float64
	// H is nil when all samples are floats. Otherwise sample i is a histogram where
	// H[i] is not nil.
	H []*histogram.FloatHistogram
	// Rising says that all samples are floats, none of them is NaN or less than the one
	// before it. That is so for some samples without it, too.
	Rising bool
}

// Decoder merges replicas into columns. It keeps its memory between series and belongs
// to one goroutine at a time.
type Decoder struct{ c coverage }

// Decode appends the samples of Merge from the time from on to dst.
func (d *Decoder) Decode(f Func, replicas []Replica, o Options, from int64, dst *Samples) error {
	if f != FuncCoverage || len(replicas) < 2 {
		return dst.Append(f.Merge(replicas, o), from)
	}
	d.c.reset(replicas, o, true)
	d.c.columns = true
	dst.Rising = len(dst.T) == 0
	for r, ok := d.c.next(); ok; r, ok = d.c.next() {
		dst.add(&r, from)
		d.c.direct(dst, from)
	}
	return d.c.err()
}

// add appends the samples of a run.
func (s *Samples) add(r *run, from int64) {
	k := 0
	for k < len(r.t) && r.t[k] < from {
		k++
	}
	n := len(s.T)
	s.T, s.V = append(s.T, r.t[k:]...), append(s.V, r.v[k:]...)
	s.Rising = s.Rising && r.h == nil && rises(s.V[max(n-1, 0):])
	if r.h != nil && s.H == nil {
		s.H = make([]*histogram.FloatHistogram, n, len(s.T))
	}
	if s.H == nil {
		return
	}
	for i := n; i < len(s.T); i++ {
		var h *histogram.FloatHistogram
		if r.h != nil && r.h[k] != (hist{}) {
			h = r.h[k].float()
		}
		s.H = append(s.H, h)
		k++
	}
}

// rises says that no value is NaN or less than the one before it.
func rises(vs []float64) bool {
	last := math.Inf(-1)
	for _, v := range vs {
		if !(v >= last) {
			return false
		}
		last = v
	}
	return true
}

// Append appends the samples of an iterator from the time from on.
func (s *Samples) Append(it chunkenc.Iterator, from int64) error {
	if from == math.MinInt64 {
		from++ // Seek needs a time after the start of time
	}
	for typ := it.Seek(from); typ != chunkenc.ValNone; typ = it.Next() {
		t, v := int64(0), 0.0
		var h *histogram.FloatHistogram
		if typ == chunkenc.ValFloat {
			t, v = it.At()
		} else {
			t, h = it.AtFloatHistogram(nil)
		}
		if h != nil && s.H == nil {
			s.H = make([]*histogram.FloatHistogram, len(s.T), len(s.T)+iteratorBatch)
		}
		if s.T, s.V = append(s.T, t), append(s.V, v); s.H != nil {
			s.H = append(s.H, h)
		}
	}
	return it.Err()
}

// AppendChunks appends the samples of chunks of floats within bounds.
func (s *Samples) AppendChunks(chunks FloatChunks, b Bounds) error {
	cols := xorcolumn.Columns{T: s.T, V: s.V}
	for i := range chunks.Len() {
		c := chunks.Chunk(i)
		if c.MinTime > b.MaxTime {
			break
		}
		if c.MaxTime < b.MinTime {
			continue
		}
		n, until := cols.Len(), b.MaxTime
		if c.MaxTime <= until {
			until = math.MaxInt64
		}
		if _, err := c.appendUntil(&cols, until); err != nil {
			return fmt.Errorf("decode the chunk from %d: %w", c.MinTime, err)
		}
		clip(&cols, n, b)
	}
	s.T, s.V = cols.T, cols.V
	return nil
}

// intervalChunks is the number of chunks that Interval uses.
const intervalChunks = 3

// Interval estimates the time between two samples of a source in milliseconds
// from the headers of the first of its n chunks, without decoding any: the
// smallest mean of a chunk, since a gap makes a mean larger. The result is 0
// when no chunk has two samples. chunk returns the times of the first and last
// sample and the number of samples of chunk i.
func Interval(n int, chunk func(i int) (mint, maxt int64, samples int)) int64 {
	var best int64
	for i, looked := 0, 0; i < n && looked < intervalChunks; i++ {
		mint, maxt, samples := chunk(i)
		if samples < 2 || maxt <= mint {
			continue
		}
		looked++
		mean := max(1, (maxt-mint)/int64(samples-1))
		if best == 0 || mean < best {
			best = mean
		}
	}
	return best
}
