package multitsdb

import (
	"math"

	"github.com/prometheus/prometheus/storage"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// newest is the newest sample so far of the series in the request. The TSDB
// compares a sample with what is committed, and drops at the commit, without a
// word, what contradicts another sample of the same request. A sender would take
// that for stored.
type newest struct {
	known bool
	t     int64
	bits  uint64 // of a float
	hist  remotewrite.Histogram
}

// float checks a float sample against the newest.
func (n *newest) float(t int64, v float64, outOfOrder bool) error {
	next := newest{known: true, t: t, bits: math.Float64bits(v)}
	return n.next(next, n.hist.Int == nil && n.hist.Float == nil && n.bits == next.bits, outOfOrder)
}

// histogram checks a histogram against the newest.
func (n *newest) histogram(h remotewrite.Histogram, outOfOrder bool) error {
	same := false
	switch {
	case h.Int != nil && n.hist.Int != nil:
		same = h.Int.Equals(n.hist.Int)
	case h.Float != nil && n.hist.Float != nil:
		same = h.Float.Equals(n.hist.Float)
	}
	return n.next(newest{known: true, t: h.T, hist: h}, same, outOfOrder)
}

func (n *newest) next(next newest, same, outOfOrder bool) error {
	switch {
	case !n.known || next.t > n.t:
		*n = next
	case next.t == n.t && !same:
		return storage.ErrDuplicateSampleForTimestamp
	case next.t < n.t && !outOfOrder:
		return storage.ErrOutOfOrderSample
	}
	return nil
}
