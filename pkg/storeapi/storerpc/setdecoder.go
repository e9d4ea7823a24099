package storerpc

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/zerocopy"
)

// maxLabelBytes is the longest name or value that a label set can hold.
const maxLabelBytes = 1<<24 - 1

// setDecoder decodes the label sets of one frame. Neighbours begin with the same
// labels: where the messages of two series begin with the same bytes, the encoding of
// these labels is copied.
type setDecoder struct {
	arena labelArena
	// used is how many bytes the label sets of the last frame had, as the guess for
	// the next one.
	used int
	// left is the bytes of the frame that are not decoded yet, or less for their tags.
	left int

	// The current set: its last name so far, whether its names ascend, and its size.
	last   []byte
	sorted bool
	size   labelCount

	// before is the message of the series before, set its encoded label set, and ends
	// the state behind each label at the beginning of the message.
	before, set []byte
	ends        []labelEnd
}

// labelEnd is where a label ends, in the message and in the encoded set, and the state
// of the decoder there.
type labelEnd struct {
	message, set int
	last         []byte
	size         labelCount
}

// reset prepares for a frame of n bytes.
func (d *setDecoder) reset(n int) {
	d.arena.reset(min(n, guess(d.used)))
	d.used, d.left = 0, n
	d.ends = d.ends[:0]
}

// release forgets the bytes of the frame, which belong to others now.
func (d *setDecoder) release() {
	clear(d.ends)
	d.before, d.set, d.last, d.ends = nil, nil, nil, d.ends[:0]
}

// begin starts the set of a series and decodes the labels at the beginning of its
// message. It returns how many bytes these are; add decodes the rest.
func (d *setDecoder) begin(msg []byte) (read int, err error) {
	d.left = max(d.left-len(msg), 0)
	d.last, d.sorted, d.size = nil, true, labelCount{}
	common, n := zerocopy.CommonBytes(d.before, msg), len(d.ends)
	for n > 0 && d.ends[n-1].message > common {
		n--
	}
	d.before, d.ends = msg, d.ends[:n]
	if n > 0 {
		read = d.ends[n-1].message
	}
	d.arena.reserve(read+labelBytes(msg[read:]), d.left)
	if n > 0 {
		end := &d.ends[n-1]
		d.arena.copy(d.set[:end.set])
		read, d.last, d.size = end.message, end.last, end.size
	}
	for read+1 < len(msg) && msg[read] == tagSeriesLabel && msg[read+1] < 0x80 {
		end := read + 2 + int(msg[read+1])
		if end > len(msg) {
			break // which the caller notices
		}
		if err := d.add(msg[read+2 : end : end]); err != nil {
			return 0, err
		}
		read = end
		d.ends = append(d.ends, labelEnd{message: read, set: d.arena.len(), last: d.last, size: d.size})
	}
	return read, nil
}

// labelBytes is how many bytes the labels at the beginning of a message take. Labels
// after a chunk, which no server sends, get their memory one by one.
func labelBytes(msg []byte) (n int) {
	for n < len(msg) && msg[n] == tagSeriesLabel {
		_, end := protoscan.Delimited(msg, n+1)
		if end < 0 {
			break
		}
		n = end
	}
	return n
}

// add decodes one Label of the current set.
func (d *setDecoder) add(b []byte) error {
	name, value, err := readLabel(b)
	if err != nil {
		return err
	}
	if len(value) == 0 { // the absence of the label
		return nil
	}
	if len(name) == 0 {
		return fmt.Errorf("series has the value %q of a label without a name", clip(value))
	}
	if err := d.size.add(len(name) + len(value)); err != nil {
		return err
	}
	if d.last != nil && bytes.Compare(d.last, name) >= 0 {
		d.sorted = false
	}
	d.last = name
	d.arena.add(name, value)
	return nil
}

// finish returns the current set, whose message is msg.
func (d *setDecoder) finish(msg []byte) (labels.Labels, error) {
	if !d.sorted {
		if err := d.sort(msg); err != nil {
			return labels.EmptyLabels(), err
		}
		d.ends = d.ends[:0] // these are in the order of the message
	}
	d.set = d.arena.finish()
	d.used += len(d.set) + 7
	return zerocopy.Labels(d.set), nil
}

// readLabel reads a Label. A name is not nil, be it empty.
func readLabel(b []byte) (name, value []byte, err error) {
	// Nearly all labels are two short strings in order of their numbers.
	if len(b) >= 4 && b[0] == tagLabelName && b[1] < 0x80 {
		if i := 2 + int(b[1]); i+1 < len(b) && b[i] == tagLabelValue && b[i+1] < 0x80 && i+2+int(b[i+1]) == len(b) {
			return b[2:i], b[i+2:], nil
		}
	}
	name = []byte{}
	fields, field := protoscan.Fields{B: b}, protoscan.Field{}
	for fields.Next(&field) {
		switch field.Tag {
		case tagLabelName:
			name = field.Data
		case tagLabelValue:
			value = field.Data
		}
	}
	if err := fields.Err(); err != nil {
		return nil, nil, err
	}
	if len(name) > maxLabelBytes || len(value) > maxLabelBytes {
		return nil, nil, fmt.Errorf("label with a name of %d and a value of %d bytes", len(name), len(value))
	}
	return name, value, nil
}

type labelPair struct{ name, value []byte }

// sort builds the current set once more, in order: the rest of the program relies on
// names that are sorted and unique.
func (d *setDecoder) sort(msg []byte) error {
	d.arena.drop()
	var pairs []labelPair
	fields, field := protoscan.Fields{B: msg}, protoscan.Field{} // addSeries has checked them
	for fields.Next(&field) {
		if field.Tag != tagSeriesLabel {
			continue
		}
		if name, value, err := readLabel(field.Data); err != nil {
			return err
		} else if len(value) > 0 {
			pairs = append(pairs, labelPair{name, value})
		}
	}
	slices.SortFunc(pairs, func(a, b labelPair) int { return bytes.Compare(a.name, b.name) })
	for i, p := range pairs {
		if i > 0 && bytes.Equal(pairs[i-1].name, p.name) {
			return fmt.Errorf("series has the label %q twice", p.name)
		}
		d.arena.add(p.name, p.value)
	}
	return nil
}
