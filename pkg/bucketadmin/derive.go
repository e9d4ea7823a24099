package bucketadmin

import (
	"maps"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
)

// Derivable returns the block of the next finer resolution of which the compactor would
// make m again if m were gone: it has the labels, sources and times of m, and no mark keeps
// the compactor from it. It is nil for raw blocks and without such a block.
func Derivable(v *blocklist.View, m *block.Meta) *block.Meta {
	finer := block.ResolutionRaw
	switch m.Resolution() {
	case block.Resolution1h:
		finer = block.Resolution5m
	case block.Resolution5m:
	default:
		return nil
	}
	for _, id := range slices.SortedFunc(maps.Keys(v.Metas), ulid.ULID.Compare) {
		s := v.Metas[id]
		usable := v.Deletion[id] == nil && v.NoDownsample[id] == nil
		if usable && s.Resolution() == finer && s.MinTime <= m.MinTime && m.MaxTime <= s.MaxTime &&
			maps.Equal(s.Thanos.Labels, m.Thanos.Labels) && sameSources(s, m) {
			return s
		}
	}
	return nil
}

func sameSources(a, b *block.Meta) bool {
	sorted := func(m *block.Meta) []ulid.ULID {
		return slices.Compact(slices.SortedFunc(slices.Values(m.Compaction.Sources), ulid.ULID.Compare))
	}
	return len(a.Compaction.Sources) > 0 && slices.Equal(sorted(a), sorted(b))
}
