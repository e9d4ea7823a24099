package protoscan_test

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
)

func ExampleFields() {
	msg := []byte{1 << 3, 150, 1, 2<<3 | protoscan.Bytes, 2, 'h', 'i'}
	s, f := protoscan.Fields{B: msg}, protoscan.Field{}
	for s.Next(&f) {
		switch f.Tag {
		case 1<<3 | protoscan.Varint:
			fmt.Println("number", f.Num)
		case 2<<3 | protoscan.Bytes:
			fmt.Printf("text %s\n", f.Data)
		}
	}
	fmt.Println(s.Err())
	// Output:
	// number 150
	// text hi
	// <nil>
}

// everyType has a field of each wire type.
func everyType() []byte {
	b := protowire.AppendTag(nil, 1, protowire.VarintType)
	b = protowire.AppendVarint(b, math.MaxUint64)
	b = protowire.AppendTag(b, 2, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, 0x0102030405060708)
	b = protowire.AppendTag(b, 3, protowire.Fixed32Type)
	b = protowire.AppendFixed32(b, 0x01020304)
	b = protowire.AppendTag(b, protowire.MaxValidNumber, protowire.BytesType)
	return protowire.AppendBytes(b, []byte("value"))
}

func TestFields_ReadsEveryWireType(t *testing.T) {
	s, f := protoscan.Fields{B: everyType()}, protoscan.Field{}
	var got []string
	for s.Next(&f) {
		got = append(got, fmt.Sprintf("%d:%d:%#x:%q", f.Number(), f.Type(), f.Num, f.Data))
	}
	require.NoError(t, s.Err())
	require.Equal(t, []string{`1:0:0xffffffffffffffff:""`, `2:1:0x102030405060708:""`, `3:5:0x1020304:""`, `536870911:2:0x0:"value"`}, got)
	require.Equal(t, len(s.B), s.Offset())
}

func TestFields_RefusesMalformed(t *testing.T) {
	whole := everyType()
	for name, b := range map[string][]byte{
		"field number 0":        {0<<3 | protoscan.Varint, 1},
		"field number too high": {0x82, 0x80, 0x80, 0x80, 0x10, 0},
		"group":                 {1<<3 | 3, 1<<3 | 4},
		"unknown wire type":     {1<<3 | 6, 0},
		"varint of 65 bits":     {1 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2},
		"length of 64 bits":     {1<<3 | protoscan.Bytes, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
		"cut in a value":        whole[:len(whole)-1],
		"cut in a fixed value":  {1<<3 | protoscan.Fixed32, 0, 0, 0},
		"cut in a tag":          {0x80},
	} {
		s, f := protoscan.Fields{B: b}, protoscan.Field{}
		for s.Next(&f) {
		}
		require.ErrorIs(t, s.Err(), protoscan.ErrMalformed, name)
		require.False(t, s.Next(&f), name)
	}
}

func TestUvarintSize_IsThatOfTheEncoding(t *testing.T) {
	for shift := range 64 {
		for _, v := range []uint64{1 << shift, 1<<shift - 1} {
			require.Equal(t, protowire.SizeVarint(v), protoscan.UvarintSize(v), v)
		}
	}
}

func TestFields_AllocatesNothing(t *testing.T) {
	b := everyType()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		s, f := protoscan.Fields{B: b}, protoscan.Field{}
		for s.Next(&f) {
		}
	}))
}

// FuzzFields compares with the reader of the protobuf module, which accepts
// groups and higher numbers of fields beside.
func FuzzFields(f *testing.F) {
	f.Add(everyType())
	f.Add([]byte{1<<3 | 3, 1<<3 | 4})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, field := protoscan.Fields{B: data}, protoscan.Field{}
		rest := data
		for s.Next(&field) {
			num, typ, n := protowire.ConsumeTag(rest)
			require.GreaterOrEqual(t, n, 0)
			require.Equal(t, int(num), field.Number())
			require.Equal(t, int(typ), field.Type())
			rest = rest[n:]
			compareValue(t, rest, num, typ, &field)
			n = protowire.ConsumeFieldValue(num, typ, rest)
			require.Equal(t, len(data)-len(rest)+n, s.Offset())
			require.Equal(t, s.Offset(), protoscan.Skip(data, len(data)-len(rest), field.Tag))
			rest = rest[n:]
		}
		if s.Err() == nil {
			require.Empty(t, rest)
			return
		}
		num, typ, n := protowire.ConsumeField(rest)
		require.True(t, n < 0 || typ == protowire.StartGroupType || num > protowire.MaxValidNumber,
			"field %d of type %d is refused", num, typ)
	})
}

func compareValue(t *testing.T, rest []byte, num protowire.Number, typ protowire.Type, field *protoscan.Field) {
	var want uint64
	switch typ {
	case protowire.VarintType:
		want, _ = protowire.ConsumeVarint(rest)
	case protowire.Fixed64Type:
		want, _ = protowire.ConsumeFixed64(rest)
	case protowire.Fixed32Type:
		v, _ := protowire.ConsumeFixed32(rest)
		want = uint64(v)
	case protowire.BytesType:
		data, _ := protowire.ConsumeBytes(rest)
		require.True(t, bytes.Equal(data, field.Data))
		require.NotNil(t, field.Data)
	default:
		t.Fatalf("field %d has the wire type %d", num, typ)
	}
	require.Equal(t, want, field.Num)
}
