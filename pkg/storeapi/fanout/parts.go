package fanout

import (
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// parts finds whether label sets have all labels of any TSDB. A querier announces thousands
// of both, whose label names are nearly all the same.
type parts []namedParts

// namedParts are the labels of TSDBs with the same label names.
type namedParts struct {
	names []string
	sets  map[string]struct{} // encoded
}

func partsOf(tsdbs []storeapi.TSDBInfo) parts {
	var out parts
	byNames := map[string]int{}
	for _, t := range tsdbs {
		var names []string
		t.Labels.Range(func(l labels.Label) { names = append(names, l.Name) })
		key := strings.Join(names, "\xff")
		i, ok := byNames[key]
		if !ok {
			i = len(out)
			byNames[key] = i
			out = append(out, namedParts{names: names, sets: map[string]struct{}{}})
		}
		out[i].sets[string(t.Labels.BytesWithLabels(nil, names...))] = struct{}{}
	}
	return out
}

// partOf says whether ls has all labels of one of the TSDBs.
func (p parts) partOf(ls labels.Labels) bool {
	var buf []byte
	for _, named := range p {
		buf = ls.BytesWithLabels(buf[:0], named.names...)
		if _, ok := named.sets[string(buf)]; ok {
			return true
		}
	}
	return false
}
