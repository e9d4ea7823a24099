package storerpc

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Fields that are extensions of this project. The generated code does not know them:
// it keeps them among the unknown fields of a message, and other programs skip them.
const (
	// sortWithoutField of SeriesRequest: repeated string.
	sortWithoutField = 7002
	// supportsSortWithoutField of StoreInfo: bool.
	supportsSortWithoutField = 7001
	// warningsField of InfoResponse: repeated string.
	warningsField = 7001
)

// Bounds of the warnings of an InfoResponse: of their number, and of the bytes of each.
const (
	maxInfoWarnings    = 16
	maxInfoWarningSize = 4096
)

// addNames adds a repeated string to the unknown fields of m.
func addNames(m proto.Message, field protowire.Number, names []string) {
	if len(names) == 0 {
		return
	}
	b := m.ProtoReflect().GetUnknown()
	b = b[:len(b):len(b)]
	for _, name := range names {
		b = protowire.AppendTag(b, field, protowire.BytesType)
		b = protowire.AppendString(b, name)
	}
	m.ProtoReflect().SetUnknown(b)
}

// readNames reads a repeated string from the unknown fields of m. More than
// maxRequestLabels are an error.
func readNames(m proto.Message, field protowire.Number) ([]string, error) {
	unknown := m.ProtoReflect().GetUnknown()
	if len(unknown) == 0 {
		return nil, nil
	}
	var names []string
	fields, f := protoscan.Fields{B: unknown}, protoscan.Field{}
	for fields.Next(&f) {
		if f.Tag != protowire.EncodeTag(field, protowire.BytesType) {
			continue
		}
		if len(names) == maxRequestLabels {
			return nil, fmt.Errorf("%w: the request lists more than %d label names in field %d", storeapi.ErrInvalid, maxRequestLabels, field)
		}
		names = append(names, string(f.Data))
	}
	if err := fields.Err(); err != nil {
		return nil, fmt.Errorf("%w: unknown fields of %T: %w", storeapi.ErrInvalid, m, err)
	}
	return names, nil
}

// readWarnings reads the warnings of an InfoResponse, as far as they are within bounds.
// They are valid UTF-8.
func readWarnings(m proto.Message) (out []string) {
	fields, f := protoscan.Fields{B: m.ProtoReflect().GetUnknown()}, protoscan.Field{}
	for len(out) < maxInfoWarnings && fields.Next(&f) {
		if f.Tag == protowire.EncodeTag(warningsField, protowire.BytesType) {
			text := f.Data[:min(len(f.Data), maxInfoWarningSize)]
			out = append(out, strings.ToValidUTF8(string(text), "\ufffd"))
		}
	}
	return out
}

// addTrue adds a bool that is true to the unknown fields of m.
func addTrue(m proto.Message, field protowire.Number) {
	b := m.ProtoReflect().GetUnknown()
	b = protowire.AppendTag(b[:len(b):len(b)], field, protowire.VarintType)
	m.ProtoReflect().SetUnknown(protowire.AppendVarint(b, 1))
}

// readBool reads a bool from the unknown fields of m. Malformed fields are false.
func readBool(m proto.Message, field protowire.Number) (is bool) {
	fields, f := protoscan.Fields{B: m.ProtoReflect().GetUnknown()}, protoscan.Field{}
	for fields.Next(&f) {
		if f.Tag == protowire.EncodeTag(field, protowire.VarintType) {
			is = f.Num != 0
		}
	}
	return is && fields.Err() == nil
}
