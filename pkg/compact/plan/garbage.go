package plan

import (
	"cmp"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// detailsOutdated is the text in the mark of a superseded block, as in Thanos.
const detailsOutdated = "outdated block"

// garbage plans deletion marks for the blocks whose data is in another block of the
// same group, and returns them: all their sources are among its sources, and their
// time is within its time. An interrupted merge leaves such blocks.
func (m *maker) garbage(live []*block.Meta) map[ulid.ULID]bool {
	superseded := map[ulid.ULID]bool{}
	for _, g := range groupBlocks(live, m.policy.ReplicaLabels) {
		// The block with the most sources stays; of equal ones see prefer.
		bySources := slices.Clone(g.blocks)
		slices.SortFunc(bySources, func(a, b *block.Meta) int {
			return cmp.Or(cmp.Compare(len(b.Compaction.Sources), len(a.Compaction.Sources)), m.prefer(a, b))
		})
		holders := map[ulid.ULID][]*block.Meta{} // by source
		for _, b := range bySources {
			by := m.supersedes(holders, b)
			if by == nil {
				if !m.sound(b) || !m.whole(b) {
					// A block that may be damaged supersedes no other, nor does a
					// shard while others of its compaction are missing.
					continue
				}
				for _, s := range b.Compaction.Sources {
					holders[s] = append(holders[s], b)
				}
				continue
			}
			superseded[b.ULID] = true
			if m.owns(b) {
				m.add(Job{
					Kind: MarkDeletion, Group: g.Group, Resolution: g.Resolution,
					Reason: "its data is in " + by.ULID.String(), Details: detailsOutdated,
				}, b)
			}
		}
		m.abandonedShards(g, holders, superseded)
	}
	return superseded
}

// prefer sorts blocks with equal data: a sound one first, then the one that was rewritten
// of the other, then the older one of two that two compactors made.
func (m *maker) prefer(a, b *block.Meta) int {
	return cmp.Or(order(m.sound(a), m.sound(b)), cmp.Compare(b.RewriteCount(), a.RewriteCount()), a.ULID.Compare(b.ULID))
}

// emptied says whether h, which has no samples, can be what deletions have left of b, which
// is a shard: only an empty shard is published, in its place, so that its set is complete.
// Downsampled of it is one without samples as well.
func emptied(h, b *block.Meta) bool {
	if s := b.Shard(); s.Count < 1 || s != h.Shard() {
		return false
	}
	return h.RewriteCount() > b.RewriteCount() || h.Resolution() > b.Resolution()
}

// order sorts what is true first.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// supersedes returns a block that holds all of b, or nil.
func (m *maker) supersedes(holders map[ulid.ULID][]*block.Meta, b *block.Meta) *block.Meta {
	if len(b.Compaction.Sources) == 0 {
		return nil
	}
	for _, h := range holders[b.Compaction.Sources[0]] {
		if !m.otherShard(h, b) && m.holds(h, b) {
			return h
		}
	}
	return nil
}

// holds says whether h has all sources and all the time of b. A block without
// samples holds nothing of one that has some, unless it is the shard that is left of it.
func (m *maker) holds(h, b *block.Meta) bool {
	if h.MinTime > b.MinTime || b.MaxTime > h.MaxTime {
		return false
	}
	if h.Stats.NumSamples == 0 && b.Stats.NumSamples > 0 && !emptied(h, b) {
		return false
	}
	has := m.sourceSet(h)
	for _, s := range b.Compaction.Sources {
		if !has[s] {
			return false
		}
	}
	return true
}
