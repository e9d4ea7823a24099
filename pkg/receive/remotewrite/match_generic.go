//go:build slicelabels || dedupelabels

package remotewrite

import "github.com/prometheus/prometheus/model/labels"

// Matches says whether the label fields of a series are the label set ls.
func Matches(rawLabels []byte, ls labels.Labels) bool {
	r, same := LabelReader{B: rawLabels}, true
	ls.Range(func(l labels.Label) {
		name, value, ok := r.Next()
		same = same && ok && string(name) == l.Name && string(value) == l.Value
	})
	_, _, more := r.Next()
	return same && !more && r.err == nil
}

// Touch does nothing for this form of label sets.
func Touch(labels.Labels) byte { return 0 }
