//go:build slicelabels || dedupelabels

package storerpc

import "github.com/prometheus/prometheus/model/labels"

// labelArena builds label sets with the labels package: the builds of
// Prometheus that are not the default have other layouts.
type labelArena struct{ b labels.ScratchBuilder }

func (a *labelArena) reset(int)   { a.b.Reset() }
func (a *labelArena) reserve(int) {}
func (a *labelArena) drop()       { a.b.Reset() }

func (a *labelArena) add(name, value []byte) { a.b.Add(string(name), string(value)) }

func (a *labelArena) finish() labels.Labels {
	defer a.b.Reset()
	return a.b.Labels()
}

// appendLabels appends the label set as fields Series.labels.
func appendLabels(b []byte, ls labels.Labels) []byte {
	ls.Range(func(l labels.Label) { b = appendLabel(b, l.Name, l.Value) })
	return b
}
