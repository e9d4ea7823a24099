package replicate

import (
	"cmp"
	"slices"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// stored counts the items that a quorum of the replicas has stored according to
// the answers so far. The caller holds mu.
func (t *tracker) stored(shares []*share) (sum remotewrite.Counts) {
	for _, s := range shares {
		sum = sum.Plus(s.Batch.Counts())
		var whole map[int]remotewrite.Counts
		for i := range s.ids {
			set := s.first + i
			known := t.missing[set]
			need := t.sets[set].Quorum - t.sets[set].OK
			if need > len(known) && whole == nil {
				whole = s.bySet()
			}
			sum = sum.Minus(missing(known, need, whole[set]))
		}
	}
	return sum
}

// missing counts the items that the quorum of a set lacks, when need answers beside
// the full successes belong to the quorum: for each kind of item the need-th lowest
// count of the answers, or everything when there are too few answers.
func missing(known []remotewrite.Counts, need int, whole remotewrite.Counts) remotewrite.Counts {
	switch {
	case need <= 0:
		return remotewrite.Counts{}
	case need > len(known):
		return whole
	}
	nth := func(of func(remotewrite.Counts) int) int {
		sorted := slices.SortedFunc(slices.Values(known), func(a, b remotewrite.Counts) int { return cmp.Compare(of(a), of(b)) })
		return of(sorted[need-1])
	}
	return remotewrite.Counts{
		Samples:    nth(func(c remotewrite.Counts) int { return c.Samples }),
		Histograms: nth(func(c remotewrite.Counts) int { return c.Histograms }),
		Exemplars:  nth(func(c remotewrite.Counts) int { return c.Exemplars }),
	}
}

// set returns the index in the plan of the set that a series belongs to.
func (s *share) set(series int) int {
	var h remotewrite.Hasher
	h.Reset(s.Tenant)
	sum, err := h.Hash(s.Batch.Series(series).Labels)
	if err != nil {
		return -1 // spreading would have failed before
	}
	return s.planned(s.ring.Lookup(sum))
}

// bySet counts the items of each set of the plan.
func (s *share) bySet() map[int]remotewrite.Counts {
	out := make(map[int]remotewrite.Counts, len(s.ids))
	for i := range s.Batch.Len() {
		set := s.set(i)
		out[set] = out[set].Plus(s.Batch.Series(i).Items())
	}
	return out
}
