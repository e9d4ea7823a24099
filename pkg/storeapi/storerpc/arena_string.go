//go:build !slicelabels && !dedupelabels

package storerpc

import (
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"
)

// labelArena builds the label sets of one frame in common memory. It is never
// used for another frame: the label sets stay valid for ever, and the garbage
// collector frees the memory of a frame when its last label set is gone.
//
// It writes the layout of labels.Labels in the default build of Prometheus: one
// string of length-prefixed names and values. A test compares it with what the
// labels package builds.
type labelArena struct {
	buf   []byte
	start int
}

// reset gives the arena new memory for about size bytes of labels.
func (a *labelArena) reset(size int) {
	a.buf = make([]byte, 0, size)
	a.start = 0
}

// add appends one label to the current set.
func (a *labelArena) add(name, value []byte) {
	need := len(name) + len(value) + 8
	if cap(a.buf)-len(a.buf) < need {
		a.grow(need)
	}
	a.buf = appendPart(a.buf, name)
	a.buf = appendPart(a.buf, value)
}

// grow moves the current set, which nobody has seen yet, to new memory.
func (a *labelArena) grow(need int) {
	cur := a.buf[a.start:]
	a.buf = append(make([]byte, 0, max(4<<10, 4*(len(cur)+need))), cur...)
	a.start = 0
}

func appendPart(b, s []byte) []byte {
	if n := len(s); n < 255 {
		b = append(b, byte(n))
	} else {
		b = append(b, 255, byte(n), byte(n>>8), byte(n>>16))
	}
	return append(b, s...)
}

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
