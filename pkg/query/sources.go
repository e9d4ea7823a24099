package query

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// grouping holds the labels by which the sources of a series differ. Without any,
// every series has one source.
type grouping struct {
	// drop are all replica labels, which the result does not have.
	drop []string
	// ring are those of drop in which copies of one stream differ.
	ring []string
	// limit is the largest number of series; 0 means no limit.
	limit int
}

// reader makes the series of a selection from the streams of the stores, which are
// in the order of the full labels.
type reader struct {
	view  *view
	group grouping

	slab    chunkSlab
	builder labels.ScratchBuilder
	series  []*series
	last    labels.Labels // full
	// unsorted says that removing labels has changed the order.
	unsorted bool
	// seen are the label sets so far, when there is a limit.
	seen map[uint64]struct{}
}

// continues reports whether at is another part of the series that was added last.
func (r *reader) continues(at storeapi.Series) bool {
	return len(r.series) > 0 && labels.Equal(r.last, at.Labels)
}

// add takes in a series, or a part of one, with its full labels, and reports whether
// more are wanted.
func (r *reader) add(full labels.Labels, chunks []storeapi.Chunk) bool {
	r.last = full
	lset, copyOf := full, full
	if len(r.group.drop) > 0 {
		lset = r.without(full, r.group.drop)
		copyOf = r.without(full, r.group.ring)
	}
	if r.group.limit > 0 && !r.within(lset) {
		return false
	}
	s := &series{view: r.view, lset: lset, sources: []source{{id: copyOf, chunks: chunks}}}
	if n := len(r.series); n > 0 {
		last := r.series[n-1]
		switch c := labels.Compare(last.lset, lset); {
		case c == 0 && !r.unsorted:
			last.join(s)
			return true
		case c > 0:
			r.unsorted = true
		}
	}
	r.series = append(r.series, s)
	return true
}

// without removes labels; a label set that has none of them is returned as it
// is.
func (r *reader) without(lset labels.Labels, names []string) labels.Labels {
	found := false
	for _, n := range names {
		found = found || lset.Has(n)
	}
	if !found {
		return lset
	}
	r.builder.Reset()
	lset.Range(func(l labels.Label) {
		if !slices.Contains(names, l.Name) {
			r.builder.Add(l.Name, l.Value)
		}
	})
	return r.builder.Labels()
}

// within counts label sets, and reports whether this one is within the limit.
// Stores cannot do so: they count the replicas.
func (r *reader) within(lset labels.Labels) bool {
	if r.seen == nil {
		r.seen = map[uint64]struct{}{}
	}
	r.seen[lset.Hash()] = struct{}{}
	return len(r.seen) <= r.group.limit
}

// finish sorts the series and joins those with equal labels.
func (r *reader) finish() []*series {
	if !r.unsorted {
		r.tidy(r.series)
		return r.series
	}
	// Stable, so that the replicas of a series stay in the order of their labels.
	slices.SortStableFunc(r.series, func(a, b *series) int { return labels.Compare(a.lset, b.lset) })
	out := r.series[:0]
	for _, s := range r.series {
		if n := len(out); n > 0 && labels.Equal(out[n-1].lset, s.lset) {
			out[n-1].join(s)
			continue
		}
		out = append(out, s)
	}
	clear(r.series[len(out):])
	r.tidy(out)
	return out
}

// tidy puts the chunks of sources that came in parts in order, once for all
// parts.
func (r *reader) tidy(all []*series) {
	for _, s := range all {
		s.tidy()
	}
}

// tidy puts the chunks of sources that came in parts in order, once for all parts.
func (s *series) tidy() {
	for i := range s.sources {
		if src := &s.sources[i]; src.parts {
			src.chunks = inOrder(src.chunks)
		}
	}
}

// source are the chunks of one stream of samples: whichever store they come
// from, all their samples belong together.
type source struct {
	// id are the labels that all chunks of the stream have in common.
	id     labels.Labels
	chunks []storeapi.Chunk
	// parts says that the chunks of several parts follow each other.
	parts bool
}

// join adds the sources of o, a series with equal labels.
func (s *series) join(o *series) {
next:
	for _, add := range o.sources {
		for i := range s.sources {
			if have := &s.sources[i]; labels.Equal(have.id, add.id) {
				have.chunks, have.parts = append(have.chunks, add.chunks...), true
				continue next
			}
		}
		s.sources = append(s.sources, add)
	}
}

// inOrder sorts the chunks of a stream, and drops those that are there twice: as
// two nodes of a ring and two stores over one bucket have them.
func inOrder(all []storeapi.Chunk) []storeapi.Chunk {
	slices.SortStableFunc(all, func(x, y storeapi.Chunk) int {
		return cmp.Or(cmp.Compare(x.MinTime, y.MinTime), cmp.Compare(x.MaxTime, y.MaxTime), compareData(x, y))
	})
	return slices.CompactFunc(all, sameChunk)
}

// compareData orders chunks of the same times, so that the order of the stores that sent
// them has no part in the result.
func compareData(x, y storeapi.Chunk) int {
	if c := bytes.Compare(x.Raw.Bytes, y.Raw.Bytes); c != 0 || x.Aggr == nil || y.Aggr == nil {
		return c
	}
	a, b := x.Aggr, y.Aggr
	return cmp.Or(bytes.Compare(a.Count.Bytes, b.Count.Bytes), bytes.Compare(a.Sum.Bytes, b.Sum.Bytes), bytes.Compare(a.Min.Bytes, b.Min.Bytes),
		bytes.Compare(a.Max.Bytes, b.Max.Bytes), bytes.Compare(a.Counter.Bytes, b.Counter.Bytes))
}

func sameChunk(x, y storeapi.Chunk) bool {
	if x.MinTime != y.MinTime || x.MaxTime != y.MaxTime || !sameData(x.Raw, y.Raw) || (x.Aggr == nil) != (y.Aggr == nil) {
		return false
	}
	return x.Aggr == nil || sameData(x.Aggr.Count, y.Aggr.Count) && sameData(x.Aggr.Sum, y.Aggr.Sum) &&
		sameData(x.Aggr.Min, y.Aggr.Min) && sameData(x.Aggr.Max, y.Aggr.Max) && sameData(x.Aggr.Counter, y.Aggr.Counter)
}

func sameData(x, y storeapi.Data) bool {
	return x.Encoding == y.Encoding && bytes.Equal(x.Bytes, y.Bytes)
}
