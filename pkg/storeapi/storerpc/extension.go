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
	// evaluatesField of InfoResponse: string. The field for the Query API is not set with
	// it, because a distributed querier of another program would take the server for
	// one that has the data of all others too, and would not ask these.
	evaluatesField = 7002
	// These of QueryStats are int64.
	pagesTouchedField           = 7001
	pagesFetchedField           = 7002
	blocksOtherTimesField       = 7003
	blocksOtherLabelsField      = 7004
	blocksOtherResolutionsField = 7005
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

// readEvaluates reads the settings of an InfoResponse, no more than maxSettings bytes.
func readEvaluates(m proto.Message) (out string) {
	fields, f := protoscan.Fields{B: m.ProtoReflect().GetUnknown()}, protoscan.Field{}
	for fields.Next(&f) {
		if f.Tag == protowire.EncodeTag(evaluatesField, protowire.BytesType) {
			out = strings.ToValidUTF8(string(f.Data[:min(len(f.Data), maxSettings)]), "\ufffd")
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

// statsFields are the statistics that only this project has, with their fields of
// QueryStats.
func statsFields(st *storeapi.Stats) map[protowire.Number]*int64 {
	return map[protowire.Number]*int64{
		pagesTouchedField: &st.PagesTouched, pagesFetchedField: &st.PagesFetched,
		blocksOtherTimesField: &st.BlocksOtherTimes, blocksOtherLabelsField: &st.BlocksOtherLabels,
		blocksOtherResolutionsField: &st.BlocksOtherResolutions,
	}
}

// addStats adds the statistics that only this project has to the unknown fields of m.
func addStats(m proto.Message, st storeapi.Stats) {
	b := m.ProtoReflect().GetUnknown()
	b = b[:len(b):len(b)]
	for field, v := range statsFields(&st) {
		if *v > 0 {
			b = protowire.AppendTag(b, field, protowire.VarintType)
			b = protowire.AppendVarint(b, uint64(*v))
		}
	}
	m.ProtoReflect().SetUnknown(b)
}

// readStats reads them into st. Malformed fields end the reading.
func readStats(m proto.Message, st *storeapi.Stats) {
	known := statsFields(st)
	fields, f := protoscan.Fields{B: m.ProtoReflect().GetUnknown()}, protoscan.Field{}
	for fields.Next(&f) {
		if v := known[protowire.Number(f.Tag>>3)]; v != nil && f.Tag&7 == uint64(protowire.VarintType) {
			*v = max(0, int64(f.Num))
		}
	}
}
