package blocklist

import (
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// Superseded drops blocks that are marked for deletion and whose data is in
// another block of the view that is not: of the same resolution, and made of at
// least the same sources, with any external labels. A merge of replicas leaves such
// blocks: without this filter they would be read beside their successor until they are
// deleted.
//
// It must come after the filters that select the served blocks: a successor that
// another process serves may not have been listed there yet.
func Superseded() Filter {
	return Filter{Name: "superseded", Drop: func(v *View) []ulid.ULID {
		// By the first source of some marked block: most blocks are not marked.
		successors := map[ulid.ULID][]*block.Meta{}
		for id := range v.Deletion {
			if m := v.Metas[id]; m != nil && len(m.Compaction.Sources) > 0 {
				successors[m.Compaction.Sources[0]] = nil
			}
		}
		if len(successors) == 0 {
			return nil
		}
		for id, m := range v.Metas {
			if v.Deletion[id] != nil {
				continue
			}
			for _, s := range m.Compaction.Sources {
				if others, ok := successors[s]; ok {
					successors[s] = append(others, m)
				}
			}
		}
		var out []ulid.ULID
		c := coverage{}
		for id := range v.Deletion {
			m := v.Metas[id]
			if m == nil || len(m.Compaction.Sources) == 0 {
				continue
			}
			sources := m.Compaction.Sources
			if slices.ContainsFunc(successors[sources[0]], func(s *block.Meta) bool { return c.replaces(s, m) }) {
				out = append(out, id)
			}
		}
		return out
	}}
}

// replaces says whether all data of m is in s.
func (c coverage) replaces(s, m *block.Meta) bool {
	return s.ULID != m.ULID && s.Resolution() == m.Resolution() &&
		s.MinTime <= m.MinTime && m.MaxTime <= s.MaxTime && c.covers(s, m)
}
