//go:build !slicelabels && !dedupelabels

package storeapi

import (
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"
)

// splicer adds labels to label sets by copying, knowing their layout in the
// default build of Prometheus: one string of names and values, each after its
// length, which is one byte, or 255 and three bytes. The property test of
// Reorder compares it with what the labels package builds.
type splicer struct {
	ext  []labels.Label
	drop []string
	// parts are the encoded ext.
	parts []string
	size  int
	cuts  []int
}

func newSplicer(ext []labels.Label, drop []string) *splicer {
	sp := &splicer{ext: ext, drop: drop}
	for _, l := range ext {
		p := labels.FromStrings(l.Name, l.Value)
		sp.parts = append(sp.parts, *(*string)(unsafe.Pointer(&p)))
		sp.size += len(sp.parts[len(sp.parts)-1])
	}
	return sp
}

// add returns lset with ext. behind says that a label of ext comes after all of
// lset. ok is false, and nothing is done, when lset has a label that is in ext
// or is to be dropped.
func (sp *splicer) add(lset labels.Labels) (out labels.Labels, behind, ok bool) {
	s := *(*string)(unsafe.Pointer(&lset))
	ext, drop := sp.ext, sp.drop
	sp.cuts = sp.cuts[:0]
	for i := 0; i < len(s); {
		start := i
		var name string
		name, i = part(s, i)
		_, i = part(s, i)
		for len(ext) > 0 && ext[0].Name < name {
			sp.cuts = append(sp.cuts, start)
			ext = ext[1:]
		}
		for len(drop) > 0 && drop[0] < name {
			drop = drop[1:]
		}
		if len(ext) > 0 && ext[0].Name == name || len(drop) > 0 && drop[0] == name {
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
	str := unsafe.String(unsafe.SliceData(buf), len(buf))
	return *(*labels.Labels)(unsafe.Pointer(&str)), len(ext) > 0, true
}

// part returns the name or value at i, and where the next one starts.
func part(s string, i int) (string, int) {
	n := int(s[i])
	i++
	if n == 255 {
		n = int(s[i]) | int(s[i+1])<<8 | int(s[i+2])<<16
		i += 3
	}
	return s[i : i+n], i + n
}
