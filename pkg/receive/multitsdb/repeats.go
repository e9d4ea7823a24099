package multitsdb

import (
	"math/bits"

	"github.com/prometheus/prometheus/storage"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// repeats finds the series that occur again in one request, as they do when two
// have become the same by relabelling. It is reused for other requests.
type repeats struct {
	refs []storage.SeriesRef // of each series so far, 0 of one that was refused
	// table has the last index, plus one, of each reference in refs: open
	// addressing, at most half full.
	table []uint32
	shift int
	// newest is of the series that have occurred again.
	newest map[storage.SeriesRef]newest
}

// start prepares for a request of n series.
func (r *repeats) start(n int) {
	size := bits.Len(uint(max(2*n, 16) - 1))
	if cap(r.table) < 1<<size {
		r.table = make([]uint32, 1<<size)
	}
	r.table, r.shift = r.table[:1<<size], 64-size
	clear(r.table)
	r.refs = r.refs[:0]
	clear(r.newest)
}

// slot returns where the reference is, or would be.
func (r *repeats) slot(ref storage.SeriesRef) int {
	mask := len(r.table) - 1
	i := int(uint64(ref) * 0x9E3779B97F4A7C15 >> r.shift)
	for r.table[i] != 0 && r.refs[r.table[i]-1] != ref {
		i = (i + 1) & mask
	}
	return i
}

// last returns the index of the last series so far with the reference.
func (r *repeats) last(ref storage.SeriesRef) (int, bool) {
	i := r.table[r.slot(ref)]
	return int(i) - 1, i != 0
}

// add adds the next series.
func (r *repeats) add(ref storage.SeriesRef) {
	r.refs = append(r.refs, ref)
	if ref != 0 {
		r.table[r.slot(ref)] = uint32(len(r.refs))
	}
}

// newestOf returns the newest sample so far of a series that occurs again, not
// right after itself.
func (w *writer) newestOf(ref storage.SeriesRef) (n newest) {
	if n, ok := w.repeats.newest[ref]; ok {
		return n
	}
	i, ok := w.repeats.last(ref)
	if !ok {
		return n
	}
	// It may have occurred several times in a row.
	refs := w.repeats.refs
	for i > 0 && refs[i-1] == ref {
		i--
	}
	for ; i < len(refs) && refs[i] == ref; i++ {
		w.readNewest(&n, w.batch.Series(w.at(i)))
	}
	if w.repeats.newest == nil {
		w.repeats.newest = map[storage.SeriesRef]newest{}
	}
	w.repeats.newest[ref] = n
	return n
}

// readNewest does again what appending the series did to its newest sample.
func (w *writer) readNewest(n *newest, s remotewrite.Series) {
	items := remotewrite.ItemReader{B: s.Rest}
	for item, msg, ok := items.Next(); ok; item, msg, ok = items.Next() {
		if item != remotewrite.ItemSample && item != remotewrite.ItemHistogram {
			continue
		}
		if p, err := parsePoint(item, msg); err == nil && w.times.check(p.t) == nil {
			_ = n.next(&p, true)
		}
	}
}
