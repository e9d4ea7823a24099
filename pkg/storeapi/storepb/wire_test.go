package storepb_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/hintspb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/infopb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/labelpb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/prompb"
)

type vtMessage interface {
	proto.Message
	MarshalVT() ([]byte, error)
	UnmarshalVT([]byte) error
	SizeVT() int
}

// files are all generated ones.
func files() []protoreflect.FileDescriptor {
	return []protoreflect.FileDescriptor{
		labelpb.File_thanos_label_proto, storepb.File_thanos_types_proto, storepb.File_thanos_store_proto,
		storepb.File_thanos_write_proto, storepb.File_thanos_rules_proto, storepb.File_thanos_targets_proto,
		storepb.File_thanos_metadata_proto, storepb.File_thanos_exemplars_proto, storepb.File_thanos_query_proto,
		storepb.File_thanos_status_proto, infopb.File_thanos_info_info_proto, hintspb.File_hintspb_hints_proto,
		prompb.File_prometheus_copy_types_proto, prompb.File_prometheus_copy_remote_proto,
	}
}

func newMessage(t testing.TB, name string) vtMessage {
	typ, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
	require.NoError(t, err)
	return typ.New().Interface().(vtMessage)
}

// TestWire_EqualsTablesOfProtocol compares the bytes of every message with what the tables of the
// protocol say.
func TestWire_EqualsTablesOfProtocol(t *testing.T) {
	seen := map[string]map[protoreflect.FieldNumber]bool{}
	paths, err := filepath.Glob("testdata/wire/*.txt")
	require.NoError(t, err)
	for _, p := range paths {
		datadriven.RunTest(t, p, func(t *testing.T, d *datadriven.TestData) string {
			var name string
			d.ScanArgs(t, "type", &name)
			text, wire, ok := strings.Cut("\n"+d.Input+"\n", "\nwire\n")
			require.True(t, ok, "%s has no wire", d.Pos)
			m := newMessage(t, name)
			require.NoError(t, prototext.Unmarshal([]byte(text), m), d.Pos)
			if seen[name] == nil {
				seen[name] = map[protoreflect.FieldNumber]bool{}
			}
			m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
				seen[name][f.Number()] = true
				return true
			})
			return checkWire(t, d.Pos, m, assemble(t, d.Pos, strings.Split(wire, "\n")))
		})
	}
	for _, f := range files() {
		for i := range f.Messages().Len() {
			msg := f.Messages().Get(i)
			require.Contains(t, seen, string(msg.FullName()), "no case for the message")
			for j := range msg.Fields().Len() {
				require.True(t, seen[string(msg.FullName())][msg.Fields().Get(j).Number()], "%s is in no case", msg.Fields().Get(j).FullName())
			}
		}
	}
}

// checkWire compares both encoders and both decoders with want. Encoders may
// write fields in another order, oneofs last, which no reader minds.
func checkWire(t *testing.T, pos string, m vtMessage, want []byte) string {
	std, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	require.NoError(t, err)
	require.Equal(t, hex.EncodeToString(want), hex.EncodeToString(inOrder(t, std)), pos)
	vt, err := m.MarshalVT()
	require.NoError(t, err)
	require.Equal(t, hex.EncodeToString(want), hex.EncodeToString(inOrder(t, vt)), pos)
	require.Equal(t, len(want), m.SizeVT(), pos)
	for _, b := range [][]byte{want, vt} {
		back := m.ProtoReflect().New().Interface().(vtMessage)
		require.NoError(t, back.UnmarshalVT(b))
		require.True(t, proto.Equal(m, back), pos)
	}
	return strings.TrimSpace(fmt.Sprintf("% x", want)) + "\n"
}

// inOrder sorts the fields of a message by their numbers.
func inOrder(t *testing.T, b []byte) []byte {
	type field struct {
		num protowire.Number
		b   []byte
	}
	var fields []field
	for len(b) > 0 {
		num, _, n := protowire.ConsumeField(b)
		require.Positive(t, n)
		fields = append(fields, field{num, b[:n]})
		b = b[n:]
	}
	slices.SortStableFunc(fields, func(a, b field) int { return int(a.num - b.num) })
	var out []byte
	for _, f := range fields {
		out = append(out, f.b...)
	}
	return out
}

// assemble makes bytes of lines, knowing nothing of the messages.
func assemble(t *testing.T, pos string, lines []string) []byte {
	var out []byte
	for i := 0; i < len(lines); i++ {
		f := strings.SplitN(lines[i], " ", 3)
		if lines[i] == "" {
			continue
		}
		require.GreaterOrEqual(t, len(f), 2, "%s: %q", pos, lines[i])
		num, err := strconv.ParseUint(f[0], 10, 32)
		require.NoError(t, err, pos)
		if f[1] == "msg" {
			var inner []string
			for i+1 < len(lines) && strings.HasPrefix(lines[i+1], "  ") {
				i++
				inner = append(inner, lines[i][2:])
			}
			out = appendBytes(out, num, assemble(t, pos, inner))
			continue
		}
		out = appendValue(t, out, num, f[1], f[2])
	}
	return out
}

func appendBytes(out []byte, num uint64, b []byte) []byte {
	out = binary.AppendUvarint(out, num<<3|2)
	return append(binary.AppendUvarint(out, uint64(len(b))), b...)
}

func appendValue(t *testing.T, out []byte, num uint64, typ, value string) []byte {
	switch typ {
	case "int", "sint":
		return appendScalar(t, binary.AppendUvarint(out, num<<3), typ, value)
	case "double":
		return appendScalar(t, binary.AppendUvarint(out, num<<3|1), typ, value)
	case "str":
		s, err := strconv.Unquote(value)
		require.NoError(t, err)
		return appendBytes(out, num, []byte(s))
	case "bytes":
		b, err := hex.DecodeString(value)
		require.NoError(t, err)
		return appendBytes(out, num, b)
	case "ints", "sints", "doubles":
		var packed []byte
		for _, v := range strings.Fields(value) {
			packed = appendScalar(t, packed, strings.TrimSuffix(typ, "s"), v)
		}
		return appendBytes(out, num, packed)
	}
	require.Fail(t, "unknown type", typ)
	return nil
}

func appendScalar(t *testing.T, out []byte, typ, value string) []byte {
	switch typ {
	case "double":
		v, err := strconv.ParseFloat(value, 64)
		require.NoError(t, err)
		return binary.LittleEndian.AppendUint64(out, math.Float64bits(v))
	case "sint":
		v, err := strconv.ParseInt(value, 10, 64)
		require.NoError(t, err)
		return binary.AppendVarint(out, v) // Go's signed varint is the zigzag form
	}
	if u, err := strconv.ParseUint(value, 10, 64); err == nil {
		return binary.AppendUvarint(out, u)
	}
	v, err := strconv.ParseInt(value, 10, 64)
	require.NoError(t, err)
	return binary.AppendUvarint(out, uint64(v))
}

// FuzzDecoders gives arbitrary bytes to the generated decoder of every message:
// none may panic, and what one accepts must survive encoding and decoding.
func FuzzDecoders(f *testing.F) {
	var names []string
	for _, fd := range files() {
		for i := range fd.Messages().Len() {
			names = append(names, string(fd.Messages().Get(i).FullName()))
		}
	}
	for i := range names {
		f.Add(uint8(i), []byte("\x0a\x03\x0a\x01a\x12\x00\x18\x01\x21\x00\x00\x00\x00\x00\x00\xf0\x3f"))
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		m := newMessage(t, names[int(which)%len(names)])
		if m.UnmarshalVT(data) != nil {
			return
		}
		b, err := m.MarshalVT()
		require.NoError(t, err)
		require.Len(t, b, m.SizeVT())
		back := m.ProtoReflect().New().Interface().(vtMessage)
		require.NoError(t, back.UnmarshalVT(b))
		again, err := back.MarshalVT()
		require.NoError(t, err)
		require.Len(t, again, len(b))
	})
}
