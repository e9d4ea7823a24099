package plan

import (
	"cmp"
	"fmt"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// downsampling plans the missing coarser blocks of a group.
func (m *maker) downsampling(blocks []*block.Meta) {
	if !m.policy.Downsampling {
		return
	}
	for _, b := range blocks {
		to, ok := m.missing(b)
		if !ok || m.unavailable(b) || !m.whole(b) {
			continue
		}
		least := downsampleRange5m
		if to == block.Resolution1h {
			least = downsampleRange1h
		}
		length := blockSpan(b)
		if length < least {
			continue // it is merged, or downsampled when it is out of retention
		}
		if mark := m.view.NoDownsample[b.ULID]; mark != nil {
			m.skip(b, "marked no-downsample: %s", mark.Reason)
			continue
		}
		// Also where this pass does not merge them: once each has 5m data of its own, that of
		// the merged block would count as existing, and the raw data would be deleted.
		if obstacle, ok := m.waiting[b.ULID]; ok {
			m.skip(b, "not downsampled because it has to be merged first with the blocks that it overlaps: %s", cmp.Or(obstacle, "the merge is not planned yet"))
			continue
		}
		m.downsample(b, to, fmt.Sprintf("spans %s, and there is no %s data of it yet", span(length), ResolutionName(to)))
	}
}

func (m *maker) downsample(b *block.Meta, to int64, reason string) {
	m.add(Job{Kind: Downsample, Group: groupOf(b, m.policy.ReplicaLabels), Resolution: to, Reason: reason}, b)
}

// unavailable says whether no job of this plan may take the block.
func (m *maker) unavailable(b *block.Meta) bool {
	_, bad := m.view.Quarantined[b.ULID]
	_, skipped := m.view.SkippedInPass[b.ULID]
	return bad || skipped || m.used[b.ULID]
}
