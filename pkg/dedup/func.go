package dedup

import (
	"fmt"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Func names a way to merge replicas.
type Func string

const (
	// FuncPenalty follows one replica and changes to another one only where
	// the first has a gap.
	FuncPenalty Func = "penalty"
	// FuncChain takes every sample of every replica, and one of several with
	// equal timestamps.
	FuncChain Func = "chain"
)

// ParseFunc returns the function with the given name.
func ParseFunc(name string) (Func, error) {
	switch f := Func(name); f {
	case FuncPenalty, FuncChain:
		return f, nil
	}
	return "", fmt.Errorf("deduplication function %q is not known (choose %q or %q)", name, FuncPenalty, FuncChain)
}

// Replica is one source of the samples of a series.
type Replica struct {
	Samples chunkenc.Iterator
	// Interval is the expected time between two samples in milliseconds, see
	// Interval; 0 when it is not known.
	Interval int64
}

// Merge merges the replicas by f. It prefers the first replica, so the caller
// orders them by their labels. It returns a single replica unchanged, and an empty
// series for none. See penalty for counter. The result owns the iterators.
func (f Func) Merge(replicas []Replica, counter bool) chunkenc.Iterator {
	switch {
	case len(replicas) == 0:
		return chunkenc.NewNopIterator()
	case len(replicas) == 1:
		return replicas[0].Samples
	case f == FuncChain:
		return chain(replicas)
	}
	return penalty(replicas, counter)
}

// IsCounterFunc says whether the PromQL function fn reads its input as a
// counter, so that a change of replica must not appear as a counter reset.
func IsCounterFunc(fn string) bool {
	switch fn {
	case "increase", "rate", "irate", "resets":
		return true
	}
	return false
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
