package remotewrite

import (
	"encoding/binary"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/zerocopy"
)

func appendUvarint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

// appendLabel appends one label field of a series, or of an exemplar.
func appendLabel(b []byte, name, value []byte) []byte {
	b = append(b, tagLabel)
	b = appendUvarint(b, uint64(labelSize(name, value)))
	b = append(b, tagLabelName)
	b = appendUvarint(b, uint64(len(name)))
	b = append(b, name...)
	b = append(b, tagLabelValue)
	b = appendUvarint(b, uint64(len(value)))
	return append(b, value...)
}

// labelSize is the size of the Label message, without tag and length.
func labelSize(name, value []byte) int {
	return 2 + protoscan.UvarintSize(uint64(len(name))) + len(name) + protoscan.UvarintSize(uint64(len(value))) + len(value)
}

// labelFieldSize is the size of the field that appendLabel writes.
func labelFieldSize(name, value []byte) int {
	n := labelSize(name, value)
	return 1 + protoscan.UvarintSize(uint64(n)) + n
}

// AppendLabels appends the label fields of a series, in the form in which every
// sender writes them.
func AppendLabels(b []byte, ls labels.Labels) []byte {
	ls.Range(func(l labels.Label) { b = appendLabel(b, zerocopy.Bytes(l.Name), zerocopy.Bytes(l.Value)) })
	return b
}
