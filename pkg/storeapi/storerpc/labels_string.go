//go:build !slicelabels && !dedupelabels

package storerpc

import (
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"
)

// This file knows the layout of labels.Labels in the default build of
// Prometheus: one string of names and values, each after its length, which is
// one byte, or 255 and three bytes. A test compares it with what the labels
// package builds.

// labelArena builds the label sets of one frame in common memory. It is never
// used for another frame: the label sets stay valid for ever, and the garbage
// collector frees the memory of a frame when its last label set is gone.
type labelArena struct {
	buf   []byte
	start int
}

// reset gives the arena new memory for about size bytes of labels.
func (a *labelArena) reset(size int) {
	a.buf = make([]byte, 0, size)
	a.start = 0
}

// reserve makes room for a set whose protobuf form has n bytes; ours is never
// longer.
func (a *labelArena) reserve(n int) {
	if cap(a.buf)-len(a.buf) < n {
		a.buf = append(make([]byte, 0, max(8<<10, 2*(n+len(a.buf)-a.start))), a.buf[a.start:]...)
		a.start = 0
	}
}

// add appends one label to the current set. reserve has made room.
func (a *labelArena) add(name, value []byte) {
	b := appendPart(a.buf, name)
	a.buf = appendPart(b, value)
}

func appendPart(b, s []byte) []byte {
	if n := len(s); n < 255 {
		b = append(b, byte(n))
	} else {
		b = append(b, 255, byte(n), byte(n>>8), byte(n>>16))
	}
	return append(b, s...)
}

// drop forgets the current set.
func (a *labelArena) drop() { a.buf = a.buf[:a.start] }

// finish returns the current set and starts the next one, at an address at
// which comparing label sets is fast.
func (a *labelArena) finish() labels.Labels {
	b := a.buf[a.start:]
	for len(a.buf)%8 != 0 && len(a.buf) < cap(a.buf) {
		a.buf = append(a.buf, 0)
	}
	a.start = len(a.buf)
	if len(b) == 0 {
		return labels.EmptyLabels()
	}
	s := unsafe.String(&b[0], len(b))
	return *(*labels.Labels)(unsafe.Pointer(&s))
}

// appendLabels appends the label set as fields Series.labels.
func appendLabels(b []byte, ls labels.Labels) []byte {
	for s := *(*string)(unsafe.Pointer(&ls)); len(s) > 0; {
		var name, value string
		name, s = cutPart(s)
		value, s = cutPart(s)
		if n := len(name) + len(value) + 4; n < 0x80 {
			b = append(b, tagSeriesLabel, byte(n), tagLabelName, byte(len(name)))
			b = append(b, name...)
			b = append(b, tagLabelValue, byte(len(value)))
			b = append(b, value...)
			continue
		}
		b = appendLabel(b, name, value)
	}
	return b
}

func cutPart(s string) (part, rest string) {
	n, i := int(s[0]), 1
	if n == 255 {
		n, i = int(s[1])|int(s[2])<<8|int(s[3])<<16, 4
	}
	return s[i : i+n], s[i+n:]
}
