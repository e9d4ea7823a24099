package blocklist

import (
	"maps"
	"slices"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// DedupedValue is the value of the first replica label of a block that has no
// other external labels: a block without any cannot exist.
const DedupedValue = "deduped"

// WithoutReplicaLabels removes replica labels, in the view only, so that blocks of
// replicas have equal external labels.
func WithoutReplicaLabels(names ...string) Filter {
	return Filter{Name: "replica_labels", Change: func(m *block.Meta) *block.Meta {
		has := slices.ContainsFunc(names, func(n string) bool { _, ok := m.Thanos.Labels[n]; return ok })
		if !has {
			return m
		}
		c := *m // shares all but the labels: views are immutable
		c.Thanos.Labels = maps.Clone(m.Thanos.Labels)
		for _, n := range names {
			delete(c.Thanos.Labels, n)
		}
		if len(c.Thanos.Labels) == 0 {
			c.Thanos.Labels[names[0]] = DedupedValue
		}
		return &c
	}}
}
