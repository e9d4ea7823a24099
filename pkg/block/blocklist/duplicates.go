package blocklist

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// Duplicates drops blocks whose data is in another block: of the same external
// labels and resolution, and made of at least the same sources. Of equal blocks the one
// that was rewritten of the other stays, as in the plans of the compactor, so that samples
// which were removed do not come back; otherwise the one with the smallest ULID.
func Duplicates() Filter {
	return Filter{Name: "duplicate", Drop: func(v *View) []ulid.ULID {
		groups := map[string][]*block.Meta{}
		var key []byte
		var names []string
		for _, m := range v.Metas {
			key, names = appendGroup(key[:0], names[:0], m)
			groups[string(key)] = append(groups[string(key)], m)
		}
		var out []ulid.ULID
		for _, ms := range groups {
			out = append(out, duplicatesIn(ms)...)
		}
		return out
	}}
}

// appendGroup appends a key that blocks of equal external labels and resolution
// have in common. names is scratch space.
func appendGroup(key []byte, names []string, m *block.Meta) ([]byte, []string) {
	for name := range m.Thanos.Labels {
		names = append(names, name)
	}
	slices.Sort(names)
	key = binary.AppendVarint(key, m.Resolution())
	for _, name := range names {
		for _, s := range [2]string{name, m.Thanos.Labels[name]} {
			key = binary.AppendUvarint(key, uint64(len(s)))
			key = append(key, s...)
		}
	}
	return key, names
}

// duplicatesIn compares a block only with kept ones that have its first source,
// which keeps it near linear.
func duplicatesIn(ms []*block.Meta) []ulid.ULID {
	slices.SortFunc(ms, func(a, b *block.Meta) int {
		return cmp.Or(-cmp.Compare(len(a.Compaction.Sources), len(b.Compaction.Sources)),
			-cmp.Compare(a.RewriteCount(), b.RewriteCount()), a.ULID.Compare(b.ULID))
	})
	kept := make(map[ulid.ULID][]*block.Meta, len(ms)) // by those sources that are first in some block
	for _, m := range ms {
		if len(m.Compaction.Sources) > 0 {
			kept[m.Compaction.Sources[0]] = nil
		}
	}
	var out []ulid.ULID
	c := coverage{}
	for _, m := range ms {
		if len(m.Compaction.Sources) == 0 {
			continue
		}
		if slices.ContainsFunc(kept[m.Compaction.Sources[0]], func(k *block.Meta) bool { return c.covers(k, m) }) {
			out = append(out, m.ULID)
			continue
		}
		for _, s := range m.Compaction.Sources {
			if others, ok := kept[s]; ok {
				kept[s] = append(others, m)
			}
		}
	}
	return out
}

// coverage has the sources of blocks as sets, each made once: lists of sources
// can be long, and be compared with those of many blocks.
type coverage map[*block.Meta]map[ulid.ULID]bool

// covers says whether m was made of no other sources than a was.
func (c coverage) covers(a, m *block.Meta) bool {
	const few = 32
	sources := a.Compaction.Sources
	if len(sources) <= few {
		return !slices.ContainsFunc(m.Compaction.Sources, func(s ulid.ULID) bool { return !slices.Contains(sources, s) })
	}
	set, ok := c[a]
	if !ok {
		set = make(map[ulid.ULID]bool, len(sources))
		for _, s := range sources {
			set[s] = true
		}
		c[a] = set
	}
	return !slices.ContainsFunc(m.Compaction.Sources, func(s ulid.ULID) bool { return !set[s] })
}
