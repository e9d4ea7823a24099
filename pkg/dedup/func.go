package dedup

import (
	"fmt"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Func names a way to merge replicas.
type Func string

const (
	// FuncPenalty follows one replica and changes to another one only where
	// the first has a gap.
	FuncPenalty Func = "penalty"
	// FuncChain takes every sample of every replica, and one of those with
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

// Merge merges the replicas by f. A single replica is returned as it is; with
// none the result is empty. See Penalty for counter. The result owns the
// iterators.
func (f Func) Merge(replicas []chunkenc.Iterator, counter bool) chunkenc.Iterator {
	switch {
	case len(replicas) == 0:
		return chunkenc.NewNopIterator()
	case len(replicas) == 1:
		return replicas[0]
	case f == FuncChain:
		return storage.ChainSampleIteratorFromIterators(nil, replicas)
	}
	return Penalty(replicas, counter)
}

// IsCounterFunc says whether the PromQL function fn reads its input as a
// counter, so that a change of replica must not look like a counter reset.
func IsCounterFunc(fn string) bool {
	switch fn {
	case "increase", "rate", "irate", "resets":
		return true
	}
	return false
}
