package storeapi

import (
	"bytes"
	"cmp"
	"slices"
)

// maxSameSpan bounds with how many kept chunks of the same span a chunk is compared.
// Beyond it a duplicate may stay, which costs memory and changes no sample.
const maxSameSpan = 32

// joinChunks sorts the chunks of one series by time and drops those that say
// nothing new. It works in place.
func joinChunks(cs []Chunk) []Chunk {
	if len(cs) < 2 {
		return cs
	}
	if !slices.IsSortedFunc(cs, compareChunks) {
		slices.SortFunc(cs, compareChunks)
	}
	kept := cs[:1]
	for _, c := range cs[1:] {
		if !isCovered(kept, c) {
			kept = append(kept, c)
		}
	}
	return kept
}

// isCovered reports whether one of the last kept chunks, those with the same span
// as c, has everything that c has. When c has more, c takes its place.
func isCovered(kept []Chunk, c Chunk) bool {
	// Equal chunks are neighbours, and few differ in the aggregates that they have.
	// Without a bound, a store could make this quadratic with one series.
	first := max(0, len(kept)-maxSameSpan)
	for i := len(kept) - 1; i >= first && compareSpans(kept[i], c) == 0; i-- {
		if covers(kept[i], c) {
			return true
		}
		if covers(c, kept[i]) {
			kept[i] = c
			return true
		}
	}
	return false
}

func compareSpans(a, b Chunk) int {
	if c := cmp.Compare(a.MinTime, b.MinTime); c != 0 {
		return c
	}
	return cmp.Compare(a.MaxTime, b.MaxTime)
}

// compareChunks makes the order of different chunks of one span independent of
// the order in which the stores answered.
func compareChunks(a, b Chunk) int {
	if c := compareSpans(a, b); c != 0 {
		return c
	}
	if c := compareData(a.Raw, b.Raw); c != 0 {
		return c
	}
	if a.Aggr == nil || b.Aggr == nil {
		return 0
	}
	return cmp.Or(
		compareData(a.Aggr.Count, b.Aggr.Count),
		compareData(a.Aggr.Sum, b.Aggr.Sum),
		compareData(a.Aggr.Min, b.Aggr.Min),
		compareData(a.Aggr.Max, b.Aggr.Max),
		compareData(a.Aggr.Counter, b.Aggr.Counter),
	)
}

func compareData(a, b Data) int {
	if c := cmp.Compare(a.Encoding, b.Encoding); c != 0 {
		return c
	}
	return bytes.Compare(a.Bytes, b.Bytes)
}

// covers reports whether a, of the same span as b, has every part of b with the
// same content. Of equal chunks, the one with the coarser resolution covers the other, so
// that the order of the stores does not matter.
func covers(a, b Chunk) bool {
	if !sameData(a.Raw, b.Raw) {
		return false
	}
	if b.Aggr == nil {
		return true
	}
	if a.Aggr == nil {
		return false
	}
	return a.Aggr.Resolution >= b.Aggr.Resolution &&
		sameData(a.Aggr.Count, b.Aggr.Count) &&
		sameData(a.Aggr.Sum, b.Aggr.Sum) &&
		sameData(a.Aggr.Min, b.Aggr.Min) &&
		sameData(a.Aggr.Max, b.Aggr.Max) &&
		sameData(a.Aggr.Counter, b.Aggr.Counter)
}

// sameData reports whether b is absent or equal to a. The bytes decide; the hashes
// only spare comparing them.
func sameData(a, b Data) bool {
	switch {
	case b.Bytes == nil:
		return true
	case a.Bytes == nil || a.Encoding != b.Encoding || len(a.Bytes) != len(b.Bytes):
		return false
	case a.Hash != 0 && b.Hash != 0 && a.Hash != b.Hash:
		return false
	}
	return bytes.Equal(a.Bytes, b.Bytes)
}
