package peer

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/requestid"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// Store stores series on this node and routes them nowhere.
type Store interface {
	// Write stores the series of the batch with the given indexes, or all when
	// series is nil. It keeps nothing of the batch.
	Write(ctx context.Context, tenant string, b *remotewrite.Batch, series []uint32) error
}

// Service is both services of a node.
type Service struct {
	store    Store
	cfg      ServiceConfig
	draining chan struct{}
	drain    sync.Once
}

// ServiceConfig of a Service.
type ServiceConfig struct {
	// Limit bounds the bytes of series of one message.
	Limit int64
	// Arrived is called with the context of each call and each stream when it
	// begins; may be nil.
	Arrived func(ctx context.Context)
	// Stored is called with the result of each part, or of each call of another program;
	// may be nil. requestID is the id of the client's request as the peer sent it, empty
	// when there is none; it is valid until the call returns.
	Stored func(ctx context.Context, tenant string, requestID []byte, err error)
	// State returns the state of this node for its peers; nil is MemberReady.
	State func() MemberState
}

// New makes the services. They store series and never route them again.
func New(store Store, cfg ServiceConfig) *Service {
	if cfg.Arrived == nil {
		cfg.Arrived = func(context.Context) {}
	}
	if cfg.Stored == nil {
		cfg.Stored = func(context.Context, string, []byte, error) {}
	}
	if cfg.State == nil {
		cfg.State = func() MemberState { return MemberReady }
	}
	return &Service{store: store, cfg: cfg, draining: make(chan struct{})}
}

// Drain lets streams end with the message that is under way. Streams without one
// are ended by their clients.
func (s *Service) Drain() { s.drain.Do(func() { close(s.draining) }) }

// Register adds the services to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: foreignService,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: foreignMethod, Handler: s.handleForeign}},
	}, s)
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: ownService,
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: memberMethod, Handler: s.handleMember}},
		Streams: []grpc.StreamDesc{{
			StreamName: ownMethod, ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, ss grpc.ServerStream) error { return s.stream(ss) },
		}},
	}, s)
}

func (s *Service) handleForeign(srv any, ctx context.Context, decode func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
	var buf *remotewrite.Buffer
	in := &frame{read: func(b []byte) error {
		buf = remotewrite.NewBuffer(len(b))
		buf.B = append(buf.B, b...)
		return nil
	}}
	defer func() { buf.Release() }()
	if err := decode(in); err != nil {
		return nil, err
	}
	if buf == nil { // an empty message is not read at all
		buf = remotewrite.NewBuffer(0)
	}
	if i == nil {
		return s.foreign(ctx, buf)
	}
	info := &grpc.UnaryServerInfo{Server: srv, FullMethod: "/" + foreignService + "/" + foreignMethod}
	return i(ctx, in, info, func(ctx context.Context, _ any) (any, error) { return s.foreign(ctx, buf) })
}

// foreign stores the tuples of a request one after the other and answers for
// the whole of it with one status.
func (s *Service) foreign(ctx context.Context, buf *remotewrite.Buffer) (*frame, error) {
	s.cfg.Arrived(ctx)
	tuples, err := split(buf.B)
	if err != nil {
		return nil, foreignStatus(err)
	}
	var worst error
	for _, t := range tuples {
		err := s.writeTuple(ctx, buf, t)
		if err != nil && (worst == nil || remotewrite.KindOf(err) > remotewrite.KindOf(worst)) {
			worst = err
		}
	}
	if worst != nil {
		return nil, foreignStatus(worst)
	}
	return &frame{}, nil
}

// stream answers each message with one result for each part, in order.
func (s *Service) stream(ss grpc.ServerStream) error {
	s.cfg.Arrived(ss.Context())
	q := &request{limit: s.cfg.Limit}
	in, out := &frame{read: q.read}, &frame{}
	for {
		select {
		case <-s.draining:
			return status.Error(codes.Unavailable, errorid.Text("the node is stopping", errorid.ShuttingDown))
		default:
		}
		switch err := ss.RecvMsg(in); {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(ss.Context().Err(), context.Canceled):
			return nil // the client has ended the stream
		default:
			return err
		}
		out.out = s.storeParts(ss.Context(), q, out.out[:0])
		q.free()
		if q.err != nil {
			return toStatus(q.err)
		}
		if err := ss.SendMsg(out); err != nil {
			return err
		}
	}
}

// storeParts stores the parts of a message one after the other and appends their
// results.
func (s *Service) storeParts(ctx context.Context, q *request, out []byte) []byte {
	for i := range q.parts {
		p := &q.parts[i]
		err := p.err
		if err == nil {
			err = s.store.Write(ctx, p.tenant, p.batch, nil)
		}
		s.cfg.Stored(ctx, p.tenant, q.ids[p.idFrom:p.idTo], err)
		var w *remotewrite.WriteError
		if errors.As(err, &w) && w.Stored != nil {
			err = &remotewrite.WriteError{Kind: w.Kind, Err: err, Stored: w.Stored, Missing: q.bySet(p, w.Missing)}
		}
		out = appendResult(out, err)
	}
	return out
}

func (s *Service) writeTuple(ctx context.Context, buf *remotewrite.Buffer, tuple []byte) error {
	id, err := tenantOf(tuple)
	if err != nil {
		return err
	}
	buf.Retain()
	b, err := remotewrite.ScanV1(buf, tuple)
	if err != nil {
		return err
	}
	defer b.Close()
	err = s.store.Write(ctx, id, b, nil)
	s.cfg.Stored(ctx, id, sentID(ctx), err)
	return err
}

// sentID returns the id of the request that a call brings, nil when there is none.
func sentID(ctx context.Context) []byte {
	if v := metadata.ValueFromIncomingContext(ctx, requestid.MetadataKey); len(v) > 0 {
		return []byte(v[0])
	}
	return nil
}

// split returns the tenant tuples of a request. One in the single-tenant form
// is its own tuple: the numbers of its fields are the same.
func split(b []byte) (tuples [][]byte, err error) {
	fs, f := protoscan.Fields{B: b}, protoscan.Field{}
	for fs.Next(&f) {
		if f.Tag == tagTuple {
			tuples = append(tuples, f.Data)
		}
	}
	if fs.Err() != nil {
		return nil, remotewrite.Errorf(remotewrite.Invalid, "malformed write request of a peer")
	}
	if len(tuples) == 0 {
		tuples = append(tuples, b)
	}
	return tuples, nil
}

// tenantOf returns the tenant of a tuple.
func tenantOf(tuple []byte) (string, error) {
	id := ""
	fs, f := protoscan.Fields{B: tuple}, protoscan.Field{}
	for fs.Next(&f) {
		if f.Tag == tagTenant {
			id = string(f.Data)
		}
	}
	if fs.Err() != nil {
		return "", remotewrite.Errorf(remotewrite.Invalid, "malformed tenant tuple of a peer")
	}
	if err := tenant.Validate(id); err != nil {
		return "", remotewrite.Errorf(remotewrite.Invalid, "write of a peer: %w", err)
	}
	return id, nil
}

// foreignStatus translates an error for a router of Thanos. The only status that it takes for final
// is AlreadyExists: on any other it lets the sender repeat the request without end.
func foreignStatus(err error) error {
	switch remotewrite.KindOf(err) {
	case remotewrite.Invalid, remotewrite.TooLarge:
		return status.Error(codes.AlreadyExists, errorid.TextOf(err))
	}
	return toStatus(err)
}

// toStatus translates an error for a peer of this program.
func toStatus(err error) error {
	code := codes.Internal
	switch remotewrite.KindOf(err) {
	case remotewrite.Conflict:
		code = codes.AlreadyExists
	case remotewrite.Invalid, remotewrite.TooLarge:
		code = codes.InvalidArgument
	case remotewrite.LimitExceeded:
		code = codes.ResourceExhausted
	case remotewrite.NotReady, remotewrite.Unavailable:
		code = codes.Unavailable
	}
	return status.Error(code, errorid.TextOf(err))
}
