package dedup

import (
	"math"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// runs merges two replicas of floats as penalty does without counter, and returns
// the result in runs of samples that belong to one chunk. A chunk of which every
// sample is used need not be encoded again.
type runs struct {
	p    pair
	a, b Floats
}

// run is a part of a chunk of one replica.
type run struct {
	// replica is 0 or 1, chunk the number of the chunk in it.
	replica, chunk int
	// samples are those of the chunk, valid until the next call of next; from
	// and to bound those of the run, to exclusive.
	samples  *xorcolumn.Columns
	from, to int
}

// reset starts over with two replicas and their intervals. Memory is kept.
func (r *runs) reset(a, b XORChunks, intervals [2]int64) {
	all := Bounds{MinTime: math.MinInt64, MaxTime: math.MaxInt64}
	NewFloats(a, all, &r.a)
	NewFloats(b, all, &r.b)
	r.p = *newPair(Replica{Samples: &r.a, Interval: intervals[0]}, Replica{Samples: &r.b, Interval: intervals[1]}, false)
	r.p.used, r.p.other = &r.p.a, &r.p.b
}

// next returns the next run; false at the end or on an error.
func (r *runs) next() (run, bool) {
	if r.p.step() == chunkenc.ValNone {
		return run{}, false
	}
	f := r.p.used.floats
	out := run{chunk: f.next - 1, samples: &f.cols, from: f.i}
	r.p.advanceDecoded(math.MaxInt, math.MaxInt64)
	out.to = f.i + 1
	if f == &r.b {
		out.replica = 1
	}
	return out, true
}

// err is the error that ended the runs.
func (r *runs) err() error { return r.p.Err() }
