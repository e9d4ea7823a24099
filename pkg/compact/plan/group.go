package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// dedupedValue is the value of a replica label when no other label is left, because
// a block without external labels cannot be uploaded.
const dedupedValue = "deduped"

// Group identifies blocks that can be merged.
type Group struct {
	// Labels are the external labels without the replica labels.
	Labels     labels.Labels
	Resolution int64
}

// String returns resolution@{labels}.
func (g Group) String() string { return ResolutionName(g.Resolution) + "@" + g.Labels.String() }

// GroupName is the name of the group of a block.
func GroupName(m *block.Meta, replicaLabels []string) string {
	return groupOf(m, replicaLabels).String()
}

// equal says whether two groups are the same.
func (g Group) equal(o Group) bool {
	return g.Resolution == o.Resolution && labels.Equal(g.Labels, o.Labels)
}

// groupOf returns the group of a block.
func groupOf(m *block.Meta, replicaLabels []string) Group {
	b := labels.NewBuilder(m.ExternalLabels())
	b.Del(replicaLabels...)
	l := b.Labels()
	if l.IsEmpty() && len(replicaLabels) > 0 {
		l = labels.FromStrings(replicaLabels[0], dedupedValue)
	}
	return Group{Labels: l, Resolution: m.Resolution()}
}

// ResolutionName returns raw, 5m or 1h for a resolution in milliseconds.
func ResolutionName(r int64) string {
	switch r {
	case block.ResolutionRaw:
		return "raw"
	case block.Resolution5m:
		return "5m"
	case block.Resolution1h:
		return "1h"
	}
	return fmt.Sprintf("%dms", r)
}

// groupBlocks returns the groups in ascending order, the blocks of each in
// ascending order of MinTime, then of age.
func groupBlocks(metas []*block.Meta, replicaLabels []string) []grouped {
	byName := map[string]*grouped{}
	for _, m := range metas {
		g := groupOf(m, replicaLabels)
		name := g.String()
		if byName[name] == nil {
			byName[name] = &grouped{Group: g}
		}
		byName[name].blocks = append(byName[name].blocks, m)
	}
	out := make([]grouped, 0, len(byName))
	for _, g := range byName {
		slices.SortFunc(g.blocks, byMinTime)
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b grouped) int {
		return cmp.Or(labels.Compare(a.Labels, b.Labels), cmp.Compare(a.Resolution, b.Resolution))
	})
	return out
}

type grouped struct {
	Group
	blocks []*block.Meta
}

func byMinTime(a, b *block.Meta) int {
	return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), cmp.Compare(a.MaxTime, b.MaxTime), a.ULID.Compare(b.ULID))
}

// span formats a duration in days or hours, if it is a whole number of them.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= day && d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return d.Truncate(time.Second).String()
}

func millis(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }
