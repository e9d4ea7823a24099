package store

import (
	"cmp"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/store/bucketblock"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// coverMargin is how far blocks of other replicas may be apart for the chunks of one to
// decide about those of the other, in milliseconds.
const coverMargin = 10 * 60_000

// covers returns, for each of the blocks, what decides which of its chunks are left out,
// or nil. A block has a part in that if its data is raw, all labels in which its series
// may differ from those of a replica are external ones by which replicas differ, and no
// other block of the same replica has the same time: both would be read.
func covers(r *storeapi.Request, blocks []blockRequest) []*bucketblock.Cover {
	out := make([]*bucketblock.Cover, len(blocks))
	if r.Covered == nil || r.SkipChunks || r.Limit > 0 || len(r.WithoutReplicaLabels) > 0 {
		return out
	}
	groups := map[string][]replicaBlock{}
	for i, b := range blocks {
		if key, ok := coverKey(r, b); ok {
			groups[key] = append(groups[key], replicaBlock{index: i, ext: b.ext, mint: b.block.Meta().MinTime, maxt: b.block.Meta().MaxTime})
		}
	}
	var all *bucketblock.Covers
	for _, group := range groups {
		slices.SortFunc(group, func(a, b replicaBlock) int {
			return cmp.Or(labels.Compare(a.ext, b.ext), cmp.Compare(a.mint, b.mint))
		})
		if !rank(group) {
			continue
		}
		if all == nil {
			all = bucketblock.NewCovers(r)
		}
		for i := range group {
			b := &group[i]
			var earlier []*bucketblock.Cover
			for _, e := range group[:i] {
				if e.mint < b.maxt+coverMargin && b.mint < e.maxt+coverMargin {
					earlier = append(earlier, e.cover)
				}
			}
			b.cover = all.Add(b.rank, earlier)
			out[b.index] = b.cover
		}
	}
	return out
}

// replicaBlock is a block of one of several replicas.
type replicaBlock struct {
	index      int // in the blocks of the request
	ext        labels.Labels
	mint, maxt int64 // of the block
	rank       int
	cover      *bucketblock.Cover
}

// rank numbers the replicas of a sorted group. It returns false when there is only one,
// or when blocks of one overlap.
func rank(group []replicaBlock) bool {
	for i := 1; i < len(group); i++ {
		a, b := &group[i-1], &group[i]
		b.rank = a.rank
		if !labels.Equal(a.ext, b.ext) {
			b.rank++
		} else if b.mint < a.maxt {
			return false
		}
	}
	return group[len(group)-1].rank > 0
}

// coverKey returns what the replicas of a block have in common.
func coverKey(r *storeapi.Request, b blockRequest) (string, bool) {
	key := storeapi.NewOrder(r.SortWithout).Key(b.ext).String()
	if b.block.Meta().Resolution() != 0 {
		return key, false
	}
	replica := false
	for _, name := range r.SortWithout {
		if !b.ext.Has(name) {
			continue
		}
		if !slices.Contains(r.Covered.Replicas, name) {
			return key, false // it may be a copy of another one
		}
		key, replica = key+"\xff"+name, true
	}
	return key, replica
}
