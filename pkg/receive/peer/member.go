package peer

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
)

// MemberState is what a node says of itself to its peers.
type MemberState uint64

// The states. Their values are those of the wire.
const (
	// MemberStarting: it takes no writes yet.
	MemberStarting MemberState = 1
	// MemberReady: it takes writes.
	MemberReady MemberState = 2
	// MemberLeaving: it leaves the hashring for good.
	MemberLeaving MemberState = 3
)

const memberMethod = "Member"

// handleMember answers with the state in field 1. The request has no content.
func (s *Service) handleMember(srv any, ctx context.Context, decode func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
	in := &frame{read: func([]byte) error { return nil }}
	if err := decode(in); err != nil {
		return nil, err
	}
	handle := func(context.Context, any) (any, error) {
		return &frame{out: []byte{1<<3 | protoscan.Varint, byte(s.cfg.State())}}, nil
	}
	if i == nil {
		return handle(ctx, in)
	}
	return i(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/" + ownService + "/" + memberMethod}, handle)
}

// AskMember asks a node for its state. A node of another program that answers is ready,
// as it has no method for the question. An error means that it does not answer.
func AskMember(ctx context.Context, conn grpc.ClientConnInterface) (MemberState, error) {
	var in incoming
	err := conn.Invoke(ctx, "/"+ownService+"/"+memberMethod, &outgoing{}, &in, grpc.ForceCodecV2(clientCodec{}))
	if status.Code(err) == codes.Unimplemented {
		return MemberReady, nil
	}
	if err != nil {
		return 0, fmt.Errorf("ask a peer for its state: %w", err)
	}
	state := MemberStarting
	fields, f := protoscan.Fields{B: in.data}, protoscan.Field{}
	for fields.Next(&f) {
		if f.Tag == 1<<3|protoscan.Varint {
			state = MemberState(f.Num)
		}
	}
	if err := fields.Err(); err != nil {
		return 0, fmt.Errorf("ask a peer for its state: %w", err)
	}
	return state, nil
}
