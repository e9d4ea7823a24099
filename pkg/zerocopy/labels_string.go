//go:build !slicelabels && !dedupelabels

package zerocopy

import (
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"
)

// It does not compile when labels.Labels is not as large as a string.
const _ = -(unsafe.Sizeof(labels.Labels{}) ^ unsafe.Sizeof(""))

// Encoding returns the encoding of a label set. It shares the memory of the set.
func Encoding(ls labels.Labels) string { return *(*string)(unsafe.Pointer(&ls)) }

// Labels returns the label set with this encoding, which must be correct: names
// ascending and unique. The set shares the memory of b.
func Labels(b []byte) labels.Labels {
	s := String(b)
	return *(*labels.Labels)(unsafe.Pointer(&s))
}
