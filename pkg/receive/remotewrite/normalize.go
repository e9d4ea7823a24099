package remotewrite

import (
	"bytes"
	"slices"
)

// Normalize returns b with the labels of each series sorted by name, and without
// labels that have an empty value: the form in which all nodes hash and store a
// series. b itself is returned when it has that form
// already, as the requests of most senders do; otherwise the result is another
// batch, which the caller closes beside b.
func Normalize(b *Batch) (*Batch, error) {
	first := 0
	for first < b.Len() && isNormal(b.Series(first).Labels) {
		first++
	}
	if first == b.Len() {
		return b, nil
	}
	buf := NewBuffer(len(b.data))
	var raw []byte
	for i := range b.Len() {
		s := b.Series(i)
		if i < first || isNormal(s.Labels) {
			buf.B = append(buf.B, b.Raw(i)...)
			continue
		}
		raw = appendNormal(raw[:0], s.Labels)
		buf.B = append(buf.B, tagSeries)
		buf.B = appendUvarint(buf.B, uint64(len(raw)+len(s.Rest)))
		buf.B = append(buf.B, raw...)
		buf.B = append(buf.B, s.Rest...)
	}
	buf.B = b.AppendMetadata(buf.B)
	return ScanV1(buf, buf.B)
}

// isNormal reports whether names ascend and no value is empty. Labels that cannot be
// read are left as they are; hashing or storing them returns the error.
func isNormal(rawLabels []byte) bool {
	r := labelReader{B: rawLabels}
	var previous []byte
	for n := 0; ; n++ {
		name, value, ok := r.Next()
		if !ok {
			return true
		}
		if len(value) == 0 || n > 0 && bytes.Compare(name, previous) < 0 {
			return false
		}
		previous = name
	}
}

// appendNormal appends the labels in order. Equal names stay: they are refused
// where the series is stored.
func appendNormal(dst, rawLabels []byte) []byte {
	type label struct{ name, value []byte }
	var all []label
	r := labelReader{B: rawLabels}
	for name, value, ok := r.Next(); ok; name, value, ok = r.Next() {
		if len(value) > 0 {
			all = append(all, label{name, value})
		}
	}
	if r.err != nil {
		return append(dst, rawLabels...)
	}
	slices.SortStableFunc(all, func(a, b label) int { return bytes.Compare(a.name, b.name) })
	for _, l := range all {
		dst = appendLabel(dst, l.name, l.value)
	}
	return dst
}
