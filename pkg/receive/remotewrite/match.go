//go:build !slicelabels && !dedupelabels

package remotewrite

import (
	"unsafe"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
)

// Matches says whether the label fields of a series, byte by byte, are the
// label set ls. False may also mean that the fields are in an unusual but legal
// form; then the slow way through LabelBuilder gives the answer.
//
// It compares against the encoding inside labels.Labels (a string of
// length-prefixed names and values), so that nothing is allocated. The test of
// this package fails when that encoding changes.
func Matches(rawLabels []byte, ls labels.Labels) bool {
	data := *(*string)(unsafe.Pointer(&ls))
	b, i, j := rawLabels, 0, 0
	for i < len(b) {
		// Lengths below 128 take one byte: the usual case, in which the length
		// and the bytes are compared in one go.
		if i+4 <= len(b) && b[i] == tagLabel && b[i+1] < 0x80 && b[i+2] == tagLabelName && b[i+3] < 0x80 {
			end, n := i+2+int(b[i+1]), 1+int(b[i+3])
			v := i + 3 + n
			if end <= len(b) && v+1 < end && j+n < len(data) && b[v] == tagLabelValue && b[v+1] < 0x80 &&
				v+2+int(b[v+1]) == end && string(b[i+3:v]) == data[j:j+n] {
				j += n
				if n = end - v - 1; j+n > len(data) || string(b[v+1:end]) != data[j:j+n] {
					return false
				}
				i, j = end, j+n
				continue
			}
		}
		if b[i] != tagLabel {
			return false
		}
		_, end := protoscan.Delimited(b, i+1)
		if end < 0 {
			return false
		}
		r := LabelReader{B: b[:end], i: i}
		name, value, ok := r.Next()
		if !ok {
			return false
		}
		if j, ok = matchPart(data, j, name); !ok {
			return false
		}
		if j, ok = matchPart(data, j, value); !ok {
			return false
		}
		i = end
	}
	return j == len(data)
}

// matchPart compares one name or value with the one at data[j:].
func matchPart(data string, j int, part []byte) (int, bool) {
	if j >= len(data) {
		return 0, false
	}
	n := int(data[j])
	j++
	if n == 255 {
		if j+3 > len(data) {
			return 0, false
		}
		n = int(data[j]) | int(data[j+1])<<8 | int(data[j+2])<<16
		j += 3
	}
	if n != len(part) || j+n > len(data) || string(part) != data[j:j+n] {
		return 0, false
	}
	return j + n, true
}

// Touch reads a byte of every cache line of the label set. Calls for several
// sets wait for memory together, where comparing one after the other would wait
// for each. The sum means nothing.
func Touch(ls labels.Labels) (sum byte) {
	data := *(*string)(unsafe.Pointer(&ls))
	for i := 0; i < len(data); i += 64 {
		sum += data[i]
	}
	return sum
}
