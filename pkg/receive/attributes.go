package receive

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// maxAttributes bounds the attributes of a resource, a scope or a data point of
// OTLP. Translating takes time in proportion to their square.
const maxAttributes = 1024

// maxAttributeSize bounds the bytes that become one label, as label sets cannot hold
// labels of any size.
const maxAttributeSize = 1 << 20

// checkMap refuses attributes that would take long to translate.
func checkMap(of string, attributes pcommon.Map) error {
	if n := attributes.Len(); n > maxAttributes {
		return remotewrite.Errorf(remotewrite.Invalid, "a %.100s has %d attributes, more than %d", of, n, maxAttributes)
	}
	for name, v := range attributes.All() {
		if n := len(name) + textSize(v); n > maxAttributeSize {
			return remotewrite.Errorf(remotewrite.Invalid, "the attribute %.100s of a %.100s has about %d bytes, more than %d", name, of, n, maxAttributeSize)
		}
	}
	return nil
}

// textSize is about the size of the value as a label. Escapes can make it six
// times that.
func textSize(v pcommon.Value) (n int) {
	switch v.Type() {
	case pcommon.ValueTypeStr:
		return len(v.Str())
	case pcommon.ValueTypeBytes:
		return v.Bytes().Len()
	case pcommon.ValueTypeSlice:
		for _, x := range v.Slice().All() {
			n += 4 + textSize(x)
		}
		return n
	case pcommon.ValueTypeMap:
		for name, x := range v.Map().All() {
			n += 8 + len(name) + textSize(x)
		}
		return n
	}
	return 24
}
