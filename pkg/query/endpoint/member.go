package endpoint

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc/stats"
)

// errSameMember ends a second try that went to the member of the first one.
var errSameMember = errors.New("all tries went to the same member of the endpoint group")

// memberKey is the key of a func(address string) in the context of a call, which is
// called with the address of the member that gets the call.
type memberKey struct{}

// member is the member of a group that got the first try. It may be used concurrently.
type member struct {
	mtx     sync.Mutex
	address string
}

func (m *member) note(address string) {
	m.mtx.Lock()
	defer m.mtx.Unlock()
	m.address = address
}

func (m *member) is(address string) bool {
	m.mtx.Lock()
	defer m.mtx.Unlock()
	return m.address == address
}

// memberWatch tells a call which member of a group it goes to. gRPC spreads calls and
// does not let the caller choose.
type memberWatch struct{}

// HandleRPC implements stats.Handler.
func (memberWatch) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if out, ok := s.(*stats.OutHeader); ok && out.RemoteAddr != nil {
		if note, ok := ctx.Value(memberKey{}).(func(string)); ok {
			note(out.RemoteAddr.String())
		}
	}
}

// TagRPC, TagConn and HandleConn implement stats.Handler.
func (memberWatch) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (memberWatch) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (memberWatch) HandleConn(context.Context, stats.ConnStats) {}
