package dedup

import (
	"math"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/aggr"
)

// Runs merges two replicas of floats exactly as Penalty does without counter,
// but returns the result in runs of samples that belong to one chunk. A chunk of
// which every sample is used need not be encoded again.
type Runs struct {
	p    pair
	a, b Floats
}

// Run is a part of a chunk of one replica.
type Run struct {
	// Replica is 0 or 1, Chunk the number of the chunk in it.
	Replica, Chunk int
	// Samples are those of the chunk, valid until the next call of Next; From
	// and To bound those of the run, To exclusive.
	Samples  *aggr.Columns
	From, To int
}

// Reset starts over with two replicas and their intervals; memory is kept.
func (r *Runs) Reset(a, b XORChunks, intervals [2]int64) {
	all := Bounds{MinTime: math.MinInt64, MaxTime: math.MaxInt64}
	NewFloats(a, all, &r.a)
	NewFloats(b, all, &r.b)
	r.p = *newPair(Replica{Samples: &r.a, Interval: intervals[0]}, Replica{Samples: &r.b, Interval: intervals[1]}, false)
	r.p.used, r.p.other = &r.p.a, &r.p.b
}

// Next returns the next run; false at the end or on an error.
func (r *Runs) Next() (Run, bool) {
	if r.p.step() == chunkenc.ValNone {
		return Run{}, false
	}
	f := r.p.used.floats
	run := Run{Chunk: f.next - 1, Samples: &f.cols, From: f.i}
	r.p.glide(math.MaxInt, math.MaxInt64)
	run.To = f.i + 1
	if f == &r.b {
		run.Replica = 1
	}
	return run, true
}

// Err is the error that ended the runs.
func (r *Runs) Err() error { return r.p.Err() }
