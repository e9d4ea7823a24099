package storerpc

import (
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/zerocopy"
)

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
// longer. left is at least the bytes of all sets that may follow in the frame: a frame of
// one series must not hold memory for many as long as the series is used.
func (a *labelArena) reserve(n, left int) {
	if cap(a.buf)-len(a.buf) < n {
		n += len(a.buf) - a.start
		a.buf = append(make([]byte, 0, min(max(8<<10, 2*n), n+left+8)), a.buf[a.start:]...)
		a.start = 0
	}
}

// add appends one label to the current set. reserve has made room.
func (a *labelArena) add(name, value []byte) {
	b := zerocopy.AppendPart(a.buf, name)
	a.buf = zerocopy.AppendPart(b, value)
}

// copy appends encoded labels to the current set. reserve has made room.
func (a *labelArena) copy(set []byte) { a.buf = append(a.buf, set...) }

// len is the number of bytes of the current set.
func (a *labelArena) len() int { return len(a.buf) - a.start }

// drop forgets the current set.
func (a *labelArena) drop() { a.buf = a.buf[:a.start] }

// finish returns the current set, encoded, and starts the next one, at an address at
// which comparing label sets is fast.
func (a *labelArena) finish() []byte {
	b := a.buf[a.start:len(a.buf):len(a.buf)]
	for len(a.buf)%8 != 0 && len(a.buf) < cap(a.buf) {
		a.buf = append(a.buf, 0)
	}
	a.start = len(a.buf)
	return b
}

// appendLabels appends the label set as fields Series.labels.
func appendLabels(b []byte, ls labels.Labels) []byte {
	for s := zerocopy.Encoding(ls); len(s) > 0; {
		var name, value string
		name, s = zerocopy.CutPart(s)
		value, s = zerocopy.CutPart(s)
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
