package plan

import (
	"fmt"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// downsampling plans the coarser blocks that are missing of a group.
func (m *maker) downsampling(blocks []*block.Meta) {
	if !m.policy.Downsampling {
		return
	}
	for _, b := range blocks {
		to, ok := m.missing(b)
		if !ok || m.untouchable(b) {
			continue
		}
		least := DownsampleRange5m
		if to == block.Resolution1h {
			least = DownsampleRange1h
		}
		length := blockSpan(b)
		if length < least {
			continue // it will grow, or expire and be downsampled then
		}
		if mark := m.view.NoDownsample[b.ULID]; mark != nil {
			m.skip(b, "marked no-downsample: %s", mark.Reason)
			continue
		}
		m.downsample(b, to, fmt.Sprintf("spans %s, and there is no %s data of it yet", span(length), ResolutionName(to)))
	}
}

func (m *maker) downsample(b *block.Meta, to int64, reason string) {
	m.add(Job{Kind: Downsample, Group: GroupOf(b, m.policy.ReplicaLabels), Resolution: to, Reason: reason}, b)
}

func (m *maker) untouchable(b *block.Meta) bool {
	_, bad := m.view.Quarantined[b.ULID]
	_, busy := m.view.Busy[b.ULID]
	return bad || busy || m.used[b.ULID]
}
