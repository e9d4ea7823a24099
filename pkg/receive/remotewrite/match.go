package remotewrite

import (
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/zerocopy"
)

// Matches reports whether the label fields of a series, byte by byte, are the
// label set ls. False may also mean that the fields are in an unusual but legal
// form; then the slow way through LabelBuilder gives the answer.
//
// It compares with the encoding of ls, so that nothing is allocated.
func Matches(rawLabels []byte, ls labels.Labels) bool {
	data := zerocopy.Encoding(ls)
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
		r := labelReader{B: b[:end], i: i}
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
	p, rest := zerocopy.CutPart(data[j:])
	return len(data) - len(rest), p == string(part)
}

// Touch reads a byte of every cache line of the label set. Calls for several
// sets wait for memory together, where comparing one after the other would wait
// for each. The sum has no meaning.
func Touch(ls labels.Labels) (sum byte) {
	data := zerocopy.Encoding(ls)
	for i := 0; i < len(data); i += 64 {
		sum += data[i]
	}
	return sum
}
