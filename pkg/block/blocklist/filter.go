package blocklist

import (
	"maps"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// Filter removes blocks from a view.
type Filter struct {
	// Name is the value of a metric label, in snake_case.
	Name string
	// Drop returns the blocks to remove. It is pure: the current time is View.Taken.
	Drop func(v *View) []ulid.ULID
}

// Apply returns the view after the filters, in order, and for each block that they
// removed from Metas the name of the filter. Partial blocks and marks stay. It does not
// change v.
func (v *View) Apply(filters ...Filter) (*View, map[ulid.ULID]string) {
	dropped := map[ulid.ULID]string{}
	if len(filters) == 0 {
		return v, dropped
	}
	out := *v
	out.Metas = maps.Clone(v.Metas)
	for _, f := range filters {
		for _, id := range f.Drop(&out) {
			dropped[id] = f.Name
			delete(out.Metas, id)
		}
	}
	out.Sizes = make(map[ulid.ULID]map[string]int64, len(out.Metas))
	for id := range out.Metas {
		out.Sizes[id] = v.Sizes[id]
	}
	return &out, dropped
}

// dropIf makes a Filter of a condition on one block.
func dropIf(name string, bad func(v *View, m *block.Meta) bool) Filter {
	return Filter{Name: name, Drop: func(v *View) []ulid.ULID {
		var out []ulid.ULID
		for id, m := range v.Metas {
			if bad(v, m) {
				out = append(out, id)
			}
		}
		return out
	}}
}
