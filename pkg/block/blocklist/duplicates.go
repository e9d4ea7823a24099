package blocklist

import (
	"cmp"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// Duplicates drops blocks whose data is in another block: of the same external
// labels and resolution, and made of at least the same sources. Of equal blocks
// the one with the smallest ULID stays.
func Duplicates() Filter {
	return Filter{Name: "duplicate", Drop: func(v *View) []ulid.ULID {
		type group struct {
			labels     string
			resolution int64
		}
		groups := map[group][]*block.Meta{}
		for _, m := range v.Metas {
			g := group{labels: string(m.ExternalLabels().Bytes(nil)), resolution: m.Resolution()}
			groups[g] = append(groups[g], m)
		}
		var out []ulid.ULID
		for _, ms := range groups {
			out = append(out, duplicatesIn(ms)...)
		}
		return out
	}}
}

// duplicatesIn looks only at kept blocks that share the first source with a
// block, which keeps it near linear.
func duplicatesIn(ms []*block.Meta) []ulid.ULID {
	slices.SortFunc(ms, func(a, b *block.Meta) int {
		return cmp.Or(-cmp.Compare(len(a.Compaction.Sources), len(b.Compaction.Sources)), a.ULID.Compare(b.ULID))
	})
	var out []ulid.ULID
	bySource := map[ulid.ULID][]map[ulid.ULID]bool{}
	for _, m := range ms {
		sources := m.Compaction.Sources
		if len(sources) == 0 {
			continue
		}
		covered := slices.ContainsFunc(bySource[sources[0]], func(kept map[ulid.ULID]bool) bool {
			return !slices.ContainsFunc(sources, func(s ulid.ULID) bool { return !kept[s] })
		})
		if covered {
			out = append(out, m.ULID)
			continue
		}
		set := make(map[ulid.ULID]bool, len(sources))
		for _, s := range sources {
			set[s] = true
		}
		for s := range set {
			bySource[s] = append(bySource[s], set)
		}
	}
	return out
}
