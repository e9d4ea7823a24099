package zerocopy

// The encoding of a label set is that of labels.Labels in the default build of
// Prometheus:
//
//	part := length bytes
//	set  := { name value }      names ascending, name and value are parts
//
// The length is one byte below 255; otherwise it is the byte 255 and three bytes,
// the lowest first. In the default build Encoding and Labels copy nothing. In the
// builds with other layouts (tags slicelabels and dedupelabels) they convert.

// MaxPart is the most bytes that a name or a value can have.
const MaxPart = 1<<24 - 1

const (
	longPart       = 255
	longPartHeader = 4
)

// AppendPart appends a name or a value, of at most MaxPart bytes, to an encoded
// label set.
func AppendPart(b, part []byte) []byte {
	if n := len(part); n < longPart {
		b = append(b, byte(n))
	} else {
		b = append(b, longPart, byte(n), byte(n>>8), byte(n>>16))
	}
	return append(b, part...)
}

// CutPart returns the name or value at the beginning of an encoded label set,
// and what follows it. The set must not be empty.
func CutPart(set string) (part, rest string) {
	n, i := int(set[0]), 1
	if n == longPart {
		n, i = int(set[1])|int(set[2])<<8|int(set[3])<<16, longPartHeader
	}
	return set[i : i+n], set[i+n:]
}
