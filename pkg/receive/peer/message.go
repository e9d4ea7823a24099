package peer

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/runtime/protoiface"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// Fields of thanos.WriteRequest and thanos.TimeSeriesTenantTuple.
const (
	tagTenant  = 2<<3 | 2 // of both messages
	tagReplica = 3 << 3
	tagTuple   = 4<<3 | 2
)

// Part is what one peer stores for one tenant.
type Part struct {
	Tenant string
	// Replica is the number of the copy, from 1. 0 means that the part holds
	// several; only peers that answer our own service take such parts.
	Replica int
	// Regions are series in wire form, back to back.
	Regions [][]byte
	// Arena is the buffer that the regions live in.
	Arena *remotewrite.Buffer
}

func (p *Part) size() (n int) {
	for _, r := range p.Regions {
		n += len(r)
	}
	return n
}

// encode makes the message out of the parts' own memory: only what surrounds
// the series is new. The slice holds a share of each arena until gRPC frees it.
func encode(parts []Part, replica int) mem.BufferSlice {
	var out mem.BufferSlice
	for i := range parts {
		p := &parts[i]
		tenantSize := 1 + uvarintSize(uint64(len(p.Tenant))) + len(p.Tenant)
		head := append(make([]byte, 0, 12), tagTuple)
		head = binary.AppendUvarint(head, uint64(p.size()+tenantSize))
		out = append(out, mem.SliceBuffer(head))
		for _, r := range p.Regions {
			out = append(out, share(r, p.Arena))
		}
		tail := append(make([]byte, 0, tenantSize+12), tagTenant)
		tail = binary.AppendUvarint(tail, uint64(len(p.Tenant)))
		tail = append(tail, p.Tenant...)
		if i == len(parts)-1 && replica > 0 {
			tail = append(tail, tagReplica)
			tail = binary.AppendUvarint(tail, uint64(replica))
		}
		out = append(out, mem.SliceBuffer(tail))
	}
	return out
}

// share makes a gRPC buffer of a region; it owns a share of the arena until
// gRPC, which may still read it after a call was cancelled, frees it.
func share(region []byte, arena *remotewrite.Buffer) mem.Buffer {
	if mem.IsBelowBufferPoolingThreshold(cap(region)) {
		// gRPC does not count owners of such small buffers.
		return mem.SliceBuffer(append([]byte(nil), region...))
	}
	arena.Retain()
	return mem.NewBuffer(&region, release{arena})
}

// release is the pool of a shared region: what gRPC puts back ends a share.
type release struct{ arena *remotewrite.Buffer }

func (release) Get(n int) *[]byte { b := make([]byte, n); return &b }

func (r release) Put(*[]byte) { r.arena.Release() }

func uvarintSize(v uint64) (n int) {
	for n = 1; v >= 0x80; n++ {
		v >>= 7
	}
	return n
}

// outgoing is a request, incoming a reply, as the client's codec sees them.
type outgoing struct{ data mem.BufferSlice }

type incoming struct{ data []byte }

// clientCodec passes bytes through. On the wire it is the codec "proto".
type clientCodec struct{}

func (clientCodec) Name() string { return "proto" }

func (clientCodec) Marshal(v any) (mem.BufferSlice, error) {
	o, ok := v.(*outgoing)
	if !ok {
		return nil, fmt.Errorf("marshal %T: not a request of this client", v)
	}
	return o.data, nil
}

func (clientCodec) Unmarshal(data mem.BufferSlice, v any) error {
	in, ok := v.(*incoming)
	if !ok {
		return fmt.Errorf("unmarshal %T: not a reply of this client", v)
	}
	in.data = data.Materialize()
	return nil
}

// frame is a message that keeps its bytes, for the server, whose codec belongs
// to somebody else. It passes for a protobuf message; both the protobuf library
// and vtprotobuf-style codecs hand it the bytes.
type frame struct {
	buf *remotewrite.Buffer // of a request
	out []byte              // of a reply
}

// ProtoReflect returns an empty message with its own methods for reading and
// writing.
func (f *frame) ProtoReflect() protoreflect.Message {
	return frameReflection{(&emptypb.Empty{}).ProtoReflect(), f}
}

// Reset drops the bytes.
func (f *frame) Reset() {
	f.buf.Release()
	*f = frame{}
}

func (f *frame) String() string { return "frame" }

// UnmarshalVT copies b, which belongs to gRPC, into pooled memory.
func (f *frame) UnmarshalVT(b []byte) error {
	f.buf = remotewrite.NewBuffer(len(b))
	f.buf.B = append(f.buf.B, b...)
	return nil
}

// SizeVT is the size of a reply.
func (f *frame) SizeVT() int { return len(f.out) }

// MarshalToSizedBufferVT writes a reply.
func (f *frame) MarshalToSizedBufferVT(b []byte) (int, error) {
	return copy(b, f.out), nil
}

type frameReflection struct {
	protoreflect.Message
	f *frame
}

// Interface returns the frame itself.
func (r frameReflection) Interface() protoreflect.ProtoMessage { return r.f }

// ProtoMethods are what the protobuf library uses instead of reflection.
func (r frameReflection) ProtoMethods() *protoiface.Methods {
	return &protoiface.Methods{
		Flags: protoiface.SupportMarshalDeterministic | protoiface.SupportUnmarshalDiscardUnknown,
		Size:  func(protoiface.SizeInput) protoiface.SizeOutput { return protoiface.SizeOutput{Size: len(r.f.out)} },
		Marshal: func(in protoiface.MarshalInput) (protoiface.MarshalOutput, error) {
			return protoiface.MarshalOutput{Buf: append(in.Buf, r.f.out...)}, nil
		},
		Unmarshal: func(in protoiface.UnmarshalInput) (protoiface.UnmarshalOutput, error) {
			return protoiface.UnmarshalOutput{Flags: protoiface.UnmarshalInitialized}, r.f.UnmarshalVT(in.Buf)
		},
		CheckInitialized: func(protoiface.CheckInitializedInput) (protoiface.CheckInitializedOutput, error) {
			return protoiface.CheckInitializedOutput{}, nil
		},
	}
}

var _ proto.Message = (*frame)(nil)

// The reply of our own service: field 1, repeated, one message for each tenant
// tuple of the request, with the kind of failure (1; absent for success, else
// the kind plus one) and its text (2).

func encodeResults(errs []error) []byte {
	var out []byte
	for _, err := range errs {
		var msg []byte
		if err != nil {
			text := err.Error()
			msg = append(msg, 1<<3, byte(remotewrite.KindOf(err))+1, 2<<3|2)
			msg = binary.AppendUvarint(msg, uint64(len(text)))
			msg = append(msg, text...)
		}
		out = append(out, 1<<3|2)
		out = binary.AppendUvarint(out, uint64(len(msg)))
		out = append(out, msg...)
	}
	return out
}

var errReply = errors.New("malformed reply of a peer")

// decodeResults reads a reply with n results.
func decodeResults(b []byte, n int) ([]error, error) {
	errs := make([]error, 0, n)
	for len(b) > 0 {
		msg, rest, ok := cutField(b, 1<<3|2)
		if !ok || len(errs) == n {
			return nil, errReply
		}
		b = rest
		if len(msg) == 0 {
			errs = append(errs, nil)
			continue
		}
		if len(msg) < 3 || msg[0] != 1<<3 || msg[1] == 0 || msg[1] > byte(remotewrite.Unavailable)+1 {
			return nil, errReply
		}
		text, _, ok := cutField(msg[2:], 2<<3|2)
		if !ok {
			return nil, errReply
		}
		errs = append(errs, remotewrite.Errorf(remotewrite.Kind(msg[1]-1), "%s", text))
	}
	if len(errs) != n {
		return nil, errReply
	}
	return errs, nil
}

// cutField takes a length-delimited field with the one-byte tag off b.
func cutField(b []byte, tag byte) (msg, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != tag {
		return nil, nil, false
	}
	n, w := binary.Uvarint(b[1:])
	if w <= 0 || n > uint64(len(b)-1-w) {
		return nil, nil, false
	}
	return b[1+w : 1+w+int(n)], b[1+w+int(n):], true
}
