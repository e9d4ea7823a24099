package plan

import (
	"fmt"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// setKey identifies the shards of one compaction in one resolution.
type setKey struct {
	set        ulid.ULID
	count      int
	resolution int64
}

// shardSet is the shards of a compaction that are live. Only all of them together stand
// for their sources; then they are planned as one block is.
type shardSet struct {
	// blocks has the shards by their index; nil are missing.
	blocks []*block.Meta
	// usable says that all shards are there, alike, sound, and not excluded from jobs.
	// Otherwise a merge of the others would have the sources, but not the samples, of
	// the rest.
	usable bool
	// complete says that all shards are there and sound.
	complete bool
}

// maxShards bounds the number of shards of a set, because it comes from a meta.json.
const maxShards = 1 << 16

// collectShards finds the sets of shards among live blocks.
func (m *maker) collectShards(live []*block.Meta) {
	m.shards = map[setKey]*shardSet{}
	for _, b := range live {
		s := b.Shard()
		if s.Count < 1 || s.Count > maxShards {
			continue
		}
		k := setKey{s.Set, s.Count, b.Resolution()}
		if m.shards[k] == nil {
			m.shards[k] = &shardSet{}
		}
		set := m.shards[k]
		if len(set.blocks) <= s.Index {
			set.blocks = append(set.blocks, make([]*block.Meta, s.Index+1-len(set.blocks))...)
		}
		// Of two blocks with one index, the one that garbage would keep counts.
		if old := set.blocks[s.Index]; old == nil || m.prefer(b, old) < 0 {
			set.blocks[s.Index] = b
		}
	}
	for k, set := range m.shards {
		set.complete = len(set.blocks) == k.count
		set.usable = set.complete
		for _, b := range set.blocks {
			if b == nil || !m.sound(b) || !alikeShards(set.blocks[0], b) {
				set.complete, set.usable = false, false
				break
			}
			_, skipped := m.view.SkippedInPass[b.ULID]
			set.usable = set.usable && m.owns(b) && !skipped && m.view.NoCompact[b.ULID] == nil
		}
	}
}

// alikeShards says whether two blocks can be shards of one compaction. Each has one
// source of its own, the id of the shard, so that a program that knows no shards does not
// take one for a copy of another and delete it.
func alikeShards(a, b *block.Meta) bool {
	if a == nil || a.MinTime != b.MinTime || a.MaxTime != b.MaxTime || len(a.Compaction.Sources) != len(b.Compaction.Sources) {
		return false
	}
	own := 0
	for _, s := range a.Compaction.Sources {
		if !slices.Contains(b.Compaction.Sources, s) {
			own++
		}
	}
	return own <= 1
}

// setOf returns the set that the block is a shard of, nil if it is none.
func (m *maker) setOf(b *block.Meta) *shardSet {
	s := b.Shard()
	if s.Count < 1 {
		return nil
	}
	return m.shards[setKey{s.Set, s.Count, b.Resolution()}]
}

// whole says whether a block stands for all samples of its sources: it is no shard, or
// one of a complete set.
func (m *maker) whole(b *block.Meta) bool {
	if b.Shard().Count < 1 {
		return true
	}
	set := m.setOf(b)
	return set != nil && set.complete && set.blocks[b.Shard().Index] == b
}

// otherShard says whether two blocks are shards of one set with different indexes, so
// that they hold different series and one never replaces the other.
func (m *maker) otherShard(a, b *block.Meta) bool {
	s := m.setOf(a)
	return s != nil && s == m.setOf(b) && a.Shard().Index != b.Shard().Index
}

// units counts the blocks of a run, the shards of a set as one.
func (m *maker) units(run []*block.Meta) int {
	n := 0
	seen := map[*shardSet]bool{}
	for _, b := range run {
		set := m.setOf(b)
		if set == nil || !seen[set] {
			n++
		}
		if set != nil {
			seen[set] = true
		}
	}
	return n
}

// wholeSets says whether the run has all or no shards of each set. The result of a part
// of a set would have the sources of all of it.
func (m *maker) wholeSets(run []*block.Meta) bool {
	missing := map[*shardSet]int{}
	for _, b := range run {
		if set := m.setOf(b); set != nil {
			if _, ok := missing[set]; !ok {
				missing[set] = len(set.blocks)
			}
			missing[set]--
		}
	}
	for _, n := range missing {
		if n != 0 {
			return false
		}
	}
	return true
}

// unusableShard says why a shard is not merged, empty if it may be.
func (m *maker) unusableShard(b *block.Meta) string {
	if b.Shard().Count < 1 {
		return ""
	}
	set := m.setOf(b)
	switch {
	case set == nil || !set.complete:
		return fmt.Sprintf("it is shard %d of %d, and others of them are missing or damaged", b.Shard().Index+1, b.Shard().Count)
	case !set.usable:
		return fmt.Sprintf("it is shard %d of %d, and others of them are excluded from merging", b.Shard().Index+1, b.Shard().Count)
	}
	return ""
}

// coveredShard says whether a block of the resolution is the downsampled one of the
// shard b.
func (m *maker) coveredShard(b *block.Meta, resolution int64) bool {
	s := b.Shard()
	if s.Count < 1 {
		return false
	}
	set := m.shards[setKey{s.Set, s.Count, resolution}]
	return set != nil && s.Index < len(set.blocks) && set.blocks[s.Index] != nil && m.holds(set.blocks[s.Index], b)
}

// abandonedShards plans deletion marks for the shards of merges that did not end: after
// partialDelay, if live blocks hold all of their sources.
func (m *maker) abandonedShards(g grouped, holders map[ulid.ULID][]*block.Meta, superseded map[ulid.ULID]bool) {
	for _, b := range g.blocks {
		if m.whole(b) || superseded[b.ULID] || !m.owns(b) || m.now.Sub(m.uploaded(b)) <= partialDelay || len(b.Compaction.Sources) == 0 {
			continue
		}
		elsewhere := true
		for _, s := range b.Compaction.Sources {
			elsewhere = elsewhere && (s == b.ULID || slices.ContainsFunc(holders[s], func(h *block.Meta) bool {
				return h.Stats.NumSamples > 0 || b.Stats.NumSamples == 0
			}))
		}
		if !elsewhere {
			continue
		}
		superseded[b.ULID] = true
		m.add(Job{
			Kind: MarkDeletion, Group: g.Group, Resolution: g.Resolution,
			Reason: fmt.Sprintf("shard %d of %d of a merge that did not end, whose sources are there", b.Shard().Index+1, b.Shard().Count), Details: detailsOutdated,
		}, b)
	}
}
