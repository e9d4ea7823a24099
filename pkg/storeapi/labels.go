package storeapi

import (
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// CompleteNames turns the label names inside a store with the external labels
// ext into the answer: external ones are added when there are any others,
// replica labels removed, the rest sorted, made unique and cut to the limit. The
// strings are copies, so they outlive their source.
func CompleteNames(names []string, ext labels.Labels, r *Request) []string {
	if len(names) == 0 {
		return nil
	}
	out := slices.Clone(names)
	ext.Range(func(l labels.Label) { out = append(out, l.Name) })
	out = slices.DeleteFunc(out, func(n string) bool { return slices.Contains(r.WithoutReplicaLabels, n) })
	return sortedUnique(out, r.Limit)
}

// CompleteValues sorts values, makes them unique and cuts them to the limit. The
// strings are copies, so they outlive their source.
func CompleteValues(values []string, r *Request) []string {
	return sortedUnique(slices.Clone(values), r.Limit)
}

func sortedUnique(out []string, limit int) []string {
	slices.Sort(out)
	out = slices.Compact(out)
	if limit > 0 && len(out) > limit {
		out = out[:limit]
	}
	for i := range out {
		out[i] = strings.Clone(out[i])
	}
	return out
}
