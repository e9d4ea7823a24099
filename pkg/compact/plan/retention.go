package plan

import (
	"cmp"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// holder identifies blocks that may have the data of another block, by resolution
// and external labels.
type holder struct {
	resolution int64
	labels     string
}

// coverage collects the sources of which each holder has data.
func (m *maker) coverage(live []*block.Meta) {
	m.covered = map[holder]map[ulid.ULID]bool{}
	m.coarse = map[ulid.ULID][]*block.Meta{}
	for _, b := range live {
		if !m.sound(b) {
			continue // the data is made again
		}
		if b.Resolution() > 0 && m.whole(b) {
			for _, s := range b.Compaction.Sources {
				m.coarse[s] = append(m.coarse[s], b)
			}
		}
		if !m.whole(b) {
			continue // see coveredShard
		}
		h := holder{b.Resolution(), b.ExternalLabels().String()}
		if m.covered[h] == nil {
			m.covered[h] = map[ulid.ULID]bool{}
		}
		for _, s := range b.Compaction.Sources {
			m.covered[h][s] = true
		}
	}
}

// isCovered says whether blocks of the resolution hold all of b: blocks with its
// labels, or with its labels without the replica labels. Data of single replicas
// does not replace that of a merged block.
func (m *maker) isCovered(b *block.Meta, resolution int64) bool {
	if m.coveredShard(b, resolution) {
		return true
	}
	own := m.covered[holder{resolution, b.ExternalLabels().String()}]
	merged := m.covered[holder{resolution, groupOf(b, m.policy.ReplicaLabels).Labels.String()}]
	for _, s := range b.Compaction.Sources {
		if !own[s] && !merged[s] {
			return m.wouldBeGarbage(b, resolution)
		}
	}
	return len(b.Compaction.Sources) > 0
}

// wouldBeGarbage says whether a block made of b in the resolution would be
// superseded at once.
func (m *maker) wouldBeGarbage(b *block.Meta, resolution int64) bool {
	if len(b.Compaction.Sources) == 0 {
		return false
	}
	g := groupOf(b, m.policy.ReplicaLabels)
	g.Resolution = resolution
	for _, o := range m.coarse[b.Compaction.Sources[0]] {
		if g.equal(groupOf(o, m.policy.ReplicaLabels)) && m.holds(o, b) {
			return true
		}
	}
	return false
}

// missing returns the next coarser resolution if b is needed to make coarser data
// that the policy keeps and that does not exist yet.
func (m *maker) missing(b *block.Meta) (int64, bool) {
	to, ok := coarser(b.Resolution())
	if !ok || !m.policy.Downsampling || m.isCovered(b, to) {
		return 0, false
	}
	// A resolution that is out of retention itself may be needed to make a
	// coarser one that is not.
	for r := to; ok; r, ok = coarser(r) {
		if !m.policy.expired(b, r, m.now) && !m.isCovered(b, r) {
			return to, true
		}
	}
	return 0, false
}

// retention marks blocks that are out of retention. A block whose coarser data is
// missing is downsampled first, whatever its length, unless it has a no-downsample
// mark. Blocks that must be merged before that are not marked.
func (m *maker) retention(live []*block.Meta) {
	m.waiting = m.unmerged(live)
	for _, b := range live {
		r := b.Resolution()
		if !m.owns(b) || outOfRange(b) || !m.policy.expired(b, r, m.now) {
			continue
		}
		if obstacle, ok := m.waiting[b.ULID]; ok {
			if obstacle != "" {
				m.skip(b, "out of retention, kept because it has to be merged with the blocks that it overlaps before it is downsampled: %s", obstacle)
			}
			continue
		}
		if to, ok := m.missing(b); ok && m.view.NoDownsample[b.ULID] == nil {
			if reason := cmp.Or(m.view.Quarantined[b.ULID], m.view.SkippedInPass[b.ULID]); reason != "" {
				m.skip(b, "out of retention, kept because there is no %s data of it: %s", ResolutionName(to), reason)
				m.used[b.ULID] = true
				continue
			}
			m.downsample(b, to, fmt.Sprintf("out of retention, and there is no %s data of it yet", ResolutionName(to)))
			continue
		}
		kept := m.policy.longest(b, r)
		m.add(Job{
			Kind: MarkDeletion, Group: groupOf(b, m.policy.ReplicaLabels), Resolution: r,
			Overdue: m.now.Sub(time.UnixMilli(b.MaxTime)) - kept,
			Reason:  fmt.Sprintf("out of the %s retention of %s%s", ResolutionName(r), span(kept), m.policy.ruleOf(b)),
			Details: fmt.Sprintf("block exceeding retention of %s", kept),
		}, b)
	}
}

func coarser(resolution int64) (int64, bool) {
	switch resolution {
	case block.ResolutionRaw:
		return block.Resolution5m, true
	case block.Resolution5m:
		return block.Resolution1h, true
	}
	return 0, false
}
