package dedup

import (
	"cmp"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
)

// ReplicaLabel is a label by which the servers of one replica set differ.
type ReplicaLabel struct {
	Name string
	// Evidence are two label sets that are equal but for labels of known names, of
	// which this is one.
	Evidence [2]labels.Labels
}

// DetectReplicaLabels returns the replica labels among the external labels of all
// stores, sorted by name. Only names that the documentation of Prometheus, Thanos,
// Cortex and their operators give to replica labels are considered: of any other label,
// such as cluster or region, two values are two sources. Such a label is detected when
// it has two values in label sets that are equal but for such labels.
//
// The result depends neither on the order of sets nor on repeated ones. It belongs to
// the caller.
func DetectReplicaLabels(sets []labels.Labels) []ReplicaLabel {
	sets = slices.Clone(sets)
	slices.SortFunc(sets, labels.Compare)
	var out []ReplicaLabel
	first := map[string]labels.Labels{}
	var key []byte
	for _, ls := range sets {
		key = key[:0]
		named := false
		ls.Range(func(l labels.Label) {
			key = append(append(key, l.Name...), 0xff)
			if isReplicaName(l.Name) {
				named = true
			} else {
				key = append(key, l.Value...)
			}
			key = append(key, 0xff)
		})
		if !named {
			continue
		}
		other, seen := first[string(key)]
		if !seen {
			first[string(key)] = ls
			continue
		}
		ls.Range(func(l labels.Label) {
			if !isReplicaName(l.Name) || l.Value == other.Get(l.Name) || slices.ContainsFunc(out, func(r ReplicaLabel) bool { return r.Name == l.Name }) {
				return
			}
			out = append(out, ReplicaLabel{Name: l.Name, Evidence: [2]labels.Labels{other, ls}})
		})
	}
	slices.SortFunc(out, func(a, b ReplicaLabel) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// isReplicaName reports whether a name is used for replica labels only.
func isReplicaName(name string) bool {
	switch name {
	case "replica", "__replica__", "prometheus_replica", "monitor_replica", // Prometheus, and its operator
		"thanos_replica", "rule_replica", "ruler_replica", "thanos_ruler_replica", // rulers
		RingLabel, "thanos_receive_replica":
		return true
	}
	return false
}
