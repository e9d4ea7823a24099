package storerpc

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// FrameMarshaler is a message that knows its wire form better than generated
// code does. The codec hands the buffers to gRPC, which frees them.
type FrameMarshaler interface {
	MarshalFrame() (mem.BufferSlice, error)
}

// ViewUnmarshaler is a message that decodes itself from bytes that it only sees
// during the call: they are used again for other messages, so it copies what it
// keeps.
type ViewUnmarshaler interface {
	UnmarshalView(data []byte) error
}

// Codec returns the codec of our servers and clients. On the wire it is the
// codec "proto" and nothing else; in memory it spares reflection: it uses the
// generated vtprotobuf methods, FrameMarshaler and ViewUnmarshaler where a
// message has them, and the protobuf library for all others.
func Codec() encoding.CodecV2 { return codec{pool: &bufferPool{}} }

type codec struct{ pool *bufferPool }

// Name is that of the standard codec, because the bytes are the same.
func (codec) Name() string { return "proto" }

type vtMarshaler interface {
	SizeVT() int
	MarshalToSizedBufferVT([]byte) (int, error)
}

type vtUnmarshaler interface {
	UnmarshalVT([]byte) error
}

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case FrameMarshaler:
		return m.MarshalFrame()
	case vtMarshaler:
		size := m.SizeVT()
		buf := c.pool.Get(size)
		if _, err := m.MarshalToSizedBufferVT(*buf); err != nil {
			c.pool.Put(buf)
			return nil, fmt.Errorf("marshal %T: %w", v, err)
		}
		return mem.BufferSlice{mem.NewBuffer(buf, c.pool)}, nil
	case proto.Message:
		b, err := proto.Marshal(m)
		if err != nil {
			return nil, fmt.Errorf("marshal %T: %w", v, err)
		}
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return nil, fmt.Errorf("marshal %T: not a protobuf message", v)
}

// Unmarshal decodes a message of gRPC. Requests above their size limit are rejected
// before they are decoded. data goes back to the buffer pool afterwards: a
// ViewUnmarshaler must copy the bytes that it keeps, a keepingUnmarshaler gets memory of
// its own, all other decoders copy.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if err := checkRequestSize(v, data.Len()); err != nil {
		return err
	}
	if m, ok := v.(keepingUnmarshaler); ok && len(data) > 0 && m.keeps(data[0].ReadOnlyData()) {
		return m.unmarshalKept(ownBytes(data))
	}
	buf := data.MaterializeToBuffer(c.pool)
	defer buf.Free()
	var err error
	switch m := v.(type) {
	case ViewUnmarshaler:
		return m.UnmarshalView(buf.ReadOnlyData())
	case interface {
		vtUnmarshaler
		proto.Message
	}:
		proto.Reset(m)
		err = m.UnmarshalVT(buf.ReadOnlyData())
	case proto.Message:
		err = proto.Unmarshal(buf.ReadOnlyData(), m)
	default:
		return fmt.Errorf("unmarshal %T: not a protobuf message", v)
	}
	if err != nil {
		return fmt.Errorf("unmarshal %T of %d bytes: %w", v, buf.Len(), err)
	}
	return nil
}

// bufferOf wraps bytes that are never freed.
func bufferOf(b []byte) mem.BufferSlice { return mem.BufferSlice{mem.SliceBuffer(b)} }
