package dedup

import (
	"cmp"
	"slices"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Chunks tells Copies about chunks of the type C.
type Chunks[C any] struct {
	// Span returns the times of the first and last sample, inclusive.
	Span func(C) (mint, maxt int64)
	// Samples decodes the chunk.
	Samples func(C) chunkenc.Iterator
}

const (
	// maxProbes is how many overlaps of one series are looked into before it is
	// taken for granted that the series has no copies, so that the usual HA pair
	// costs next to nothing.
	maxProbes = 4
	// gridSamples is how many samples of an overlap are compared.
	gridSamples = 16
)

// Copies finds chunks that hold the same stream of samples, as the nodes of a
// hash ring that store each write several times have it: timestamps are equal,
// to the millisecond, where both have a sample, but each node may lack other
// samples. Observations of one target by two Prometheus servers are never that:
// their scrapes fall on different milliseconds.
//
// The chunks, in ascending order of start, are grouped so that overlapping
// chunks of one stream are in one group. All samples of a group belong to the
// result, whereas between groups a choice must be made. Nil means that there
// are no copies.
func Copies[C any](chunks []C, f Chunks[C]) [][]C {
	if !overlap(chunks, f.Span) {
		return nil
	}
	g := grouping[C]{Chunks: f}
	for _, c := range chunks {
		g.add(c)
		if g.probes >= maxProbes && g.found == 0 {
			return nil
		}
	}
	if g.found == 0 {
		return nil
	}
	return g.groups
}

type grouping[C any] struct {
	Chunks[C]
	groups [][]C
	ends   []int64 // of groups
	probes int     // overlaps looked into
	found  int     // of these, with the same stream on both sides
}

// add puts a chunk into the first group that has the same stream, or into a new
// one.
func (g *grouping[C]) add(c C) {
	mint, maxt := g.Span(c)
	for i := range g.groups {
		if g.ends[i] >= mint && g.sameStream(g.groups[i], c) {
			g.groups[i] = append(g.groups[i], c)
			g.ends[i] = max(g.ends[i], maxt)
			g.found++
			return
		}
	}
	g.groups = append(g.groups, []C{c})
	g.ends = append(g.ends, maxt)
}

// sameStream asks the chunks of the group that overlap c, latest first, until
// one has the same stream. Two copies may have no sample in common where they
// overlap, while the ring changes for example; a third one joins them.
func (g *grouping[C]) sameStream(group []C, c C) bool {
	mint, maxt := g.Span(c)
	for _, x := range slices.Backward(group) {
		lo, hi := g.Span(x)
		if hi < mint || lo > maxt {
			continue
		}
		same, known := SameGrid(g.Samples(x), g.Samples(c), max(lo, mint), min(hi, maxt))
		if known {
			g.probes++
		}
		if same {
			return true
		}
		if g.found == 0 && g.probes >= maxProbes {
			return false
		}
	}
	return false
}

// SameGrid compares the timestamps of two iterators between mint and maxt,
// inclusive. They are on the same grid when at least half of those of the side
// with fewer samples are on the other side too. known is false when one side has
// no sample there. Only the first samples are looked at.
func SameGrid(a, b chunkenc.Iterator, mint, maxt int64) (same, known bool) {
	ta, tb := times(a, mint, maxt), times(b, mint, maxt)
	if len(ta) == 0 || len(tb) == 0 {
		return false, false
	}
	// What one side has beyond the last of the other was not compared.
	end := min(ta[len(ta)-1], tb[len(tb)-1])
	ta, tb = upTo(ta, end), upTo(tb, end)
	if len(ta) == 0 || len(tb) == 0 {
		return false, true
	}
	equal := 0
	for _, t := range ta {
		if _, ok := slices.BinarySearchFunc(tb, t, cmp.Compare[int64]); ok {
			equal++
		}
	}
	return 2*equal >= min(len(ta), len(tb)), true
}

func times(it chunkenc.Iterator, mint, maxt int64) []int64 {
	out := make([]int64, 0, gridSamples)
	for typ := it.Seek(mint); typ != chunkenc.ValNone && len(out) < gridSamples; typ = it.Next() {
		t := it.AtT()
		if t > maxt {
			break
		}
		out = append(out, t)
	}
	return out
}

// upTo cuts ascending times after end.
func upTo(ts []int64, end int64) []int64 {
	n := len(ts)
	for n > 0 && ts[n-1] > end {
		n--
	}
	return ts[:n]
}
