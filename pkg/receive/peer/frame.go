package peer

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/runtime/protoiface"
	"google.golang.org/protobuf/types/known/emptypb"
)

// frame is a message that reads and writes its own bytes, for the server, whose
// codec other services share. It passes for a protobuf message; both the
// protobuf library and vtprotobuf-style codecs hand it the bytes.
type frame struct {
	// read takes the bytes of a request, which it must not keep.
	read func([]byte) error
	out  []byte // of a reply
}

// ProtoReflect returns an empty message with its own methods for reading and
// writing.
func (f *frame) ProtoReflect() protoreflect.Message {
	return frameReflection{(&emptypb.Empty{}).ProtoReflect(), f}
}

// Reset does nothing: reading replaces everything.
func (f *frame) Reset() {}

func (f *frame) String() string { return "frame" }

// UnmarshalVT hands b, which belongs to gRPC, to its reader.
func (f *frame) UnmarshalVT(b []byte) error { return f.read(b) }

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
