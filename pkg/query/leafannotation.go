package query

import (
	"regexp"
	"strings"

	"github.com/prometheus/prometheus/util/annotations"
)

// leafAnnotation is an annotation of an evaluation below, whose text names a place in the
// query. Like the annotations of Prometheus's engine it is the same as those with equal
// texts at other places, of which the last one is shown.
type leafAnnotation struct {
	kind        error // annotations.PromQLInfo or PromQLWarning
	text, place string
	shown       bool
}

// place is what ends the text of an annotation: line and column.
var place = regexp.MustCompile(` \(\d+:\d+\)$`)

// newLeafAnnotation returns the annotation with a text, or nil if the text is none.
func newLeafAnnotation(text string) error {
	for _, kind := range []error{annotations.PromQLInfo, annotations.PromQLWarning} {
		if rest, ok := strings.CutPrefix(text, kind.Error()+": "); ok {
			p := place.FindString(rest)
			return &leafAnnotation{kind: kind, text: strings.TrimSuffix(rest, p), place: p}
		}
	}
	return nil
}

// Error returns the text, with the place once it is shown to users.
func (a *leafAnnotation) Error() string {
	text := a.kind.Error() + ": " + a.text
	if a.shown {
		text += a.place
	}
	return text
}

// Unwrap returns the kind.
func (a *leafAnnotation) Unwrap() error { return a.kind }

// SetQuery makes Error show the place: Prometheus calls it before it shows annotations.
func (a *leafAnnotation) SetQuery(string) { a.shown = true }

// Merge returns what remains of this annotation and an earlier one with the same text.
func (a *leafAnnotation) Merge(error) error { return a }
