//go:build slicelabels || dedupelabels

package zerocopy

import (
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// Encoding returns the encoding of a label set.
func Encoding(ls labels.Labels) string {
	var b []byte
	ls.Range(func(l labels.Label) { b = AppendPart(AppendPart(b, Bytes(l.Name)), Bytes(l.Value)) })
	return String(b)
}

// Labels returns the label set with this encoding, which must be correct: names
// ascending and unique.
func Labels(b []byte) labels.Labels {
	builder := labels.NewScratchBuilder(0)
	for s := String(b); s != ""; {
		var name, value string
		name, s = CutPart(s)
		value, s = CutPart(s)
		builder.Add(strings.Clone(name), strings.Clone(value))
	}
	return builder.Labels()
}
