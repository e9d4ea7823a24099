package plan

import (
	"fmt"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// merges plans the merges of one group.
func (m *maker) merges(g grouped) {
	var blocks []*block.Meta
	replaceable := m.replaceable(g)
	for _, b := range g.blocks {
		switch {
		case m.used[b.ULID] && m.view.Rewrites[b.ULID] == "" || !m.whole(b):
		case replaceable[b.ULID]:
			if lacks, ok := m.view.Incomplete[b.ULID]; ok {
				m.skip(b, "%s, and its sources are there", lacks)
			}
		case tooLong(b):
			details := fmt.Sprintf("it spans %s, more than the %s of the longest block that is merged", span(blockSpan(b)), span(maxSpan))
			if g.Resolution > 0 && !fresh(b) {
				m.skip(b, "%s", details) // the raw block that it was made of is reported
			} else {
				m.skipInvalid(b, reason.TimeRangeTooLong, details)
			}
		default:
			blocks = append(blocks, b)
		}
	}
	if rest, found := m.overlaps(g.Group, blocks); !found {
		m.windows(g.Group, rest)
	}
}

// replaceable are the blocks that are not sound and whose sources are all in sound blocks
// of the group, such as a result whose merge was interrupted. They neither take part in a
// merge, which would fail, nor divide a window: the merge of the others replaces them.
func (m *maker) replaceable(g grouped) map[ulid.ULID]bool {
	var bad []*block.Meta
	held := map[ulid.ULID]bool{}
	for _, b := range g.blocks {
		if !m.sound(b) {
			bad = append(bad, b)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	for _, b := range g.blocks {
		if m.sound(b) && m.whole(b) {
			for _, s := range b.Compaction.Sources {
				held[s] = true
			}
		}
	}
	out := map[ulid.ULID]bool{}
	for _, b := range bad {
		out[b.ULID] = len(b.Compaction.Sources) > 0 &&
			!slices.ContainsFunc(b.Compaction.Sources, func(s ulid.ULID) bool { return !held[s] })
	}
	return out
}

// overlaps plans a merge of each run of overlapping blocks, and says whether
// there was any. Only when there are none is the group merged along windows,
// because a merge of overlapping blocks may produce longer ones. It returns the
// blocks that do not overlap.
func (m *maker) overlaps(g Group, blocks []*block.Meta) (rest []*block.Meta, found bool) {
	skipped := map[ulid.ULID]bool{}
	var run []*block.Meta
	var end int64
	flush := func() {
		// The shards of one compaction have equal times, and no series in common.
		if units := m.units(run); units > 1 && g.Resolution > 0 {
			for _, b := range run {
				skipped[b.ULID] = true
				m.skip(b, "overlaps other %s blocks: downsampled data is made again from raw data, not merged", ResolutionName(g.Resolution))
			}
		} else if units > 1 && !m.blocked(run) {
			// A blocked run makes its windows wait, not the whole group.
			found = true
			m.merge(g, run, true, fmt.Sprintf("%d blocks overlap in time", len(run)))
		}
		run = nil
	}
	for _, b := range blocks {
		if m.excluded(b) {
			continue
		}
		if len(run) > 0 && (b.MinTime >= end || b.MaxTime-run[0].MinTime > maxSpan.Milliseconds()) {
			flush()
		}
		if len(run) == 0 {
			end = b.MaxTime
		}
		run = append(run, b)
		end = max(end, b.MaxTime)
	}
	flush()
	return remove(blocks, skipped), found
}

// windows plans merges of the blocks in aligned windows of each range. It skips the
// newest block, because its window is not complete.
func (m *maker) windows(g Group, blocks []*block.Meta) {
	if len(blocks) < 2 {
		return
	}
	newestSet := m.setOf(blocks[len(blocks)-1])
	blocks = blocks[:len(blocks)-1]
	for len(blocks) > 0 && newestSet != nil && m.setOf(blocks[len(blocks)-1]) == newestSet {
		blocks = blocks[:len(blocks)-1]
	}
	if len(blocks) == 0 {
		return
	}
	newest := blocks[len(blocks)-1].MinTime
	for _, r := range m.policy.Ranges {
		for _, w := range split(blocks, r) {
			if m.blocked(w) {
				continue
			}
			first, last := w[0].MinTime, w[len(w)-1].MaxTime
			if m.units(w) < 2 || last-first != r && last > newest {
				continue
			}
			if run := m.mergeable(w); m.units(run) > 1 {
				m.merge(g, run, false, fmt.Sprintf("%d blocks in a finished window of %s", len(run), span(millis(r))))
			}
		}
	}
}

// blocked says whether a block of the window is in a job of this plan already, or is
// skipped in this pass: a larger window then waits for the result.
func (m *maker) blocked(w []*block.Meta) bool {
	for _, b := range w {
		if _, ok := m.view.SkippedInPass[b.ULID]; ok || m.used[b.ULID] {
			return true
		}
	}
	return false
}

// mergeable returns the first run of two or more blocks of the window that are
// not excluded from merging. compaction.failed in a meta.json does not exclude: it is
// about an attempt of another program on another disk.
func (m *maker) mergeable(w []*block.Meta) []*block.Meta {
	var run []*block.Meta
	for _, b := range w {
		if !m.excluded(b) {
			run = append(run, b)
			continue
		}
		if m.units(run) > 1 {
			break
		}
		run = nil
	}
	return run
}

// split cuts the blocks, in ascending order of MinTime, into aligned windows of
// length r. It drops a block that does not fit into its window.
func split(blocks []*block.Meta, r int64) [][]*block.Meta {
	var out [][]*block.Meta
	var start int64
	for _, b := range blocks {
		s := floor(b.MinTime, r)
		if b.MaxTime > s+r {
			continue
		}
		if len(out) == 0 || s != start {
			out = append(out, nil)
			start = s
		}
		out[len(out)-1] = append(out[len(out)-1], b)
	}
	return out
}

func floor(t, r int64) int64 {
	f := t - t%r
	if f > t {
		f -= r
	}
	return f
}

// merge plans one merge.
func (m *maker) merge(g Group, run []*block.Meta, vertical bool, why string) {
	if !m.wholeSets(run) {
		return
	}
	m.add(Job{
		Kind: Merge, Group: g, Resolution: g.Resolution, Vertical: vertical, Reason: why,
	}, run...)
}
