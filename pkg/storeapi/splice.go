package storeapi

import (
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/zerocopy"
)

// splicer adds labels to label sets by copying parts of their encoding. The
// property test of Reorder compares it with what the labels package builds.
type splicer struct {
	ext  []labels.Label
	gone []string
	// counted is the number of ext up to the last one that the order counts.
	counted int
	// parts are the encoded ext.
	parts []string
	size  int
	cuts  []int
}

func newSplicer(ext []labels.Label, gone []string, order Order) *splicer {
	sp := &splicer{ext: ext, gone: gone}
	for i, l := range ext {
		if !order.leavesOut(l.Name) {
			sp.counted = i + 1
		}
		sp.parts = append(sp.parts, zerocopy.Encoding(labels.FromStrings(l.Name, l.Value)))
		sp.size += len(sp.parts[len(sp.parts)-1])
	}
	return sp
}

// add returns lset with ext. behind says that a label of ext that the order counts
// comes after all of lset. ok is false, and nothing is done, when lset has a label
// that is in ext or in gone.
func (sp *splicer) add(lset labels.Labels) (out labels.Labels, behind, ok bool) {
	s := zerocopy.Encoding(lset)
	ext, gone := sp.ext, sp.gone
	sp.cuts = sp.cuts[:0]
	for rest := s; len(rest) > 0; {
		start := len(s) - len(rest)
		var name string
		name, rest = zerocopy.CutPart(rest)
		_, rest = zerocopy.CutPart(rest)
		for len(ext) > 0 && ext[0].Name < name {
			sp.cuts = append(sp.cuts, start)
			ext = ext[1:]
		}
		for len(gone) > 0 && gone[0] < name {
			gone = gone[1:]
		}
		if len(ext) > 0 && ext[0].Name == name || len(gone) > 0 && gone[0] == name {
			return labels.EmptyLabels(), false, false
		}
	}
	if len(sp.ext) == 0 {
		return lset, false, true
	}
	for range ext {
		sp.cuts = append(sp.cuts, len(s))
	}
	buf := make([]byte, 0, len(s)+sp.size)
	from := 0
	for i, cut := range sp.cuts {
		buf = append(append(buf, s[from:cut]...), sp.parts[i]...)
		from = cut
	}
	buf = append(buf, s[from:]...)
	return zerocopy.Labels(buf), len(sp.ext)-len(ext) < sp.counted, true
}
