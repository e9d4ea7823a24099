package plan

import (
	"fmt"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// unmerged returns the raw blocks of one producer that overlap in time while any of
// them lacks coarser data. They are merged before any of them is downsampled or
// deleted: overlapping downsampled blocks are never merged, so downsampling them one
// by one would lose samples once the raw data is deleted. The value is the obstacle
// of a merge, empty if there is none. Blocks that cannot be planned with do not count: one
// impossible time range would keep the whole history of its producer.
func (m *maker) unmerged(live []*block.Meta) map[ulid.ULID]string {
	producers := map[string][]*block.Meta{}
	for _, b := range live { // in ascending order of MinTime
		if why, _ := m.invalid(b); why != "" || tooLong(b) {
			continue
		}
		if b.Resolution() == block.ResolutionRaw && m.owns(b) {
			name := b.ExternalLabels().String()
			producers[name] = append(producers[name], b)
		}
	}
	waiting := map[ulid.ULID]string{}
	for _, blocks := range producers {
		for _, run := range overlapping(blocks) {
			if m.units(run) < 2 || !m.someMissing(run) {
				continue
			}
			obstacle := m.obstacle(run)
			for _, b := range run {
				waiting[b.ULID] = obstacle
			}
		}
	}
	return waiting
}

// overlapping returns the runs of two or more overlapping blocks among blocks
// in ascending order of MinTime.
func overlapping(blocks []*block.Meta) [][]*block.Meta {
	var out [][]*block.Meta
	for i := 0; i < len(blocks); {
		end := blocks[i].MaxTime
		k := i + 1
		for ; k < len(blocks) && blocks[k].MinTime < end; k++ {
			end = max(end, blocks[k].MaxTime)
		}
		if k-i > 1 {
			out = append(out, blocks[i:k])
		}
		i = k
	}
	return out
}

func (m *maker) someMissing(run []*block.Meta) bool {
	for _, b := range run {
		if _, ok := m.missing(b); ok && m.view.NoDownsample[b.ULID] == nil {
			return true
		}
	}
	return false
}

// obstacle describes the first block of the run that prevents a merge, empty if none
// does.
func (m *maker) obstacle(run []*block.Meta) string {
	for _, b := range run {
		if reason, ok := m.view.SkippedInPass[b.ULID]; ok {
			return fmt.Sprintf("%s is skipped in this pass: %s", b.ULID, reason)
		}
		if m.excluded(b) {
			return fmt.Sprintf("%s is excluded from merging", b.ULID)
		}
	}
	return ""
}
