package multitsdb

import (
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// exportedPrefix begins the name under which a label is stored that has the name of
// an external label, as with a scrape whose target has a label of the server.
const exportedPrefix = "exported_"

// renamer keeps the labels of series and the external labels apart. Under one
// name the external label would hide that of the series, and series that differ
// in nothing else would become one.
type renamer struct {
	external labels.Labels
	builder  *labels.Builder
}

// rename returns the labels under which a series is stored. renamed is the old name
// of a label that has another one there, "" when nothing changed.
func (r *renamer) rename(ls labels.Labels) (out labels.Labels, renamed string) {
	r.external.Range(func(l labels.Label) {
		if ls.Has(l.Name) {
			renamed = l.Name
		}
	})
	if renamed == "" {
		return ls, ""
	}
	if r.builder == nil {
		r.builder = labels.NewBuilder(labels.EmptyLabels())
	}
	b := r.builder
	b.Reset(ls)
	r.external.Range(func(l labels.Label) {
		value := ls.Get(l.Name)
		if value == "" {
			return
		}
		name := l.Name
		for r.external.Has(name) || b.Get(name) != "" {
			name = exportedPrefix + name
		}
		b.Set(strings.Clone(name), value)
		b.Del(l.Name)
	})
	return b.Labels(), renamed
}
