package distribute

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
)

// labelNames is a set of label names: those of only, or all names where only is nil, and
// none of except.
type labelNames struct {
	only   []string
	except []string
}

// none is a set without names.
func none() labelNames { return labelNames{only: []string{}} }

func (n labelNames) has(name string) bool {
	return (n.only == nil || slices.Contains(n.only, name)) && !slices.Contains(n.except, name)
}

// and returns the names that are in the set and in the list.
func (n labelNames) and(names []string) labelNames {
	out := none()
	for _, name := range names {
		if n.has(name) {
			out.only = append(out.only, name)
		}
	}
	return out
}

// without returns the set without some names.
func (n labelNames) without(names ...string) labelNames {
	return labelNames{only: n.only, except: slices.Concat(n.except, names)}
}

// both returns the names that are in both sets.
func (n labelNames) both(o labelNames) labelNames {
	switch {
	case n.only != nil:
		return o.and(n.only).without(n.except...)
	case o.only != nil:
		return n.and(o.only).without(o.except...)
	}
	return n.without(o.except...)
}

// maxPairs bounds the comparisons of label sets of two leaves.
const maxPairs = 100_000

// separates reports whether series of a and of b always differ in one of the names. Each
// label set has all external labels of the data.
func (n labelNames) separates(a, b []labels.Labels) bool {
	if len(a) == 0 || len(b) == 0 || len(a)*len(b) > maxPairs {
		return false
	}
	for _, x := range a {
		for _, y := range b {
			if !n.differ(x, y) {
				return false
			}
		}
	}
	return true
}

// differ reports whether both label sets have one of the names, with different values.
func (n labelNames) differ(x, y labels.Labels) bool {
	found := false
	x.Range(func(l labels.Label) {
		if other := y.Get(l.Name); other != "" && other != l.Value && n.has(l.Name) {
			found = true
		}
	})
	return found
}
