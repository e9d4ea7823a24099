package peer

import (
	"context"
	"encoding/binary"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// Store stores series on this node and routes them nowhere.
type Store interface {
	// Write stores the series of the batch with the given indexes, or all when
	// series is nil. It keeps nothing of the batch.
	Write(ctx context.Context, tenant string, b *remotewrite.Batch, series []uint32) error
}

// Register adds both services. What they receive goes to the store and never
// back to a ring.
func Register(r grpc.ServiceRegistrar, store Store) {
	s := &server{store: store}
	for _, d := range []struct {
		service, method string
		handle          func(context.Context, *frame) (*frame, error)
	}{
		{foreignService, foreignMethod, s.foreign},
		{ownService, ownMethod, s.own},
	} {
		r.RegisterService(&grpc.ServiceDesc{
			ServiceName: d.service,
			HandlerType: (*any)(nil),
			Methods:     []grpc.MethodDesc{{MethodName: d.method, Handler: handler("/"+d.service+"/"+d.method, d.handle)}},
		}, s)
	}
}

func handler(path string, handle func(context.Context, *frame) (*frame, error)) grpc.MethodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, i grpc.UnaryServerInterceptor) (any, error) {
		in := &frame{}
		if err := decode(in); err != nil {
			return nil, err
		}
		defer in.buf.Release()
		if i == nil {
			return handle(ctx, in)
		}
		info := &grpc.UnaryServerInfo{Server: srv, FullMethod: path}
		return i(ctx, in, info, func(ctx context.Context, _ any) (any, error) { return handle(ctx, in) })
	}
}

type server struct{ store Store }

// foreign answers for the whole request with one status.
func (s *server) foreign(ctx context.Context, in *frame) (*frame, error) {
	errs, err := s.write(ctx, in)
	if err != nil {
		return nil, toStatus(err)
	}
	var worst error
	for _, err := range errs {
		if err != nil && (worst == nil || remotewrite.KindOf(err) > remotewrite.KindOf(worst)) {
			worst = err
		}
	}
	if worst != nil {
		return nil, toStatus(worst)
	}
	return &frame{}, nil
}

// own answers with one result for each tenant tuple.
func (s *server) own(ctx context.Context, in *frame) (*frame, error) {
	errs, err := s.write(ctx, in)
	if err != nil {
		return nil, toStatus(err)
	}
	return &frame{out: encodeResults(errs)}, nil
}

// write stores the tuples of a request one after the other: one error each.
func (s *server) write(ctx context.Context, in *frame) ([]error, error) {
	tuples, err := split(in.buf.B)
	if err != nil {
		return nil, err
	}
	errs := make([]error, len(tuples))
	for i, t := range tuples {
		errs[i] = s.writeTuple(ctx, in.buf, t)
	}
	return errs, nil
}

func (s *server) writeTuple(ctx context.Context, buf *remotewrite.Buffer, tuple []byte) error {
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
	return s.store.Write(ctx, id, b, nil)
}

// split returns the tenant tuples of a request. One in the single-tenant form
// is its own tuple: the numbers of its fields are the same.
func split(b []byte) (tuples [][]byte, err error) {
	for rest := b; len(rest) > 0; {
		tag, w := binary.Uvarint(rest)
		if w <= 0 {
			return nil, remotewrite.Errorf(remotewrite.Invalid, "malformed write request of a peer")
		}
		n, data := field(rest[w:], tag&7)
		if n < 0 {
			return nil, remotewrite.Errorf(remotewrite.Invalid, "malformed write request of a peer")
		}
		if tag == tagTuple {
			tuples = append(tuples, data)
		}
		rest = rest[w+n:]
	}
	if len(tuples) == 0 {
		tuples = append(tuples, b)
	}
	return tuples, nil
}

func tenantOf(tuple []byte) (string, error) {
	id := ""
	for rest := tuple; len(rest) > 0; {
		tag, w := binary.Uvarint(rest)
		if w <= 0 {
			return "", remotewrite.Errorf(remotewrite.Invalid, "malformed tenant tuple of a peer")
		}
		n, data := field(rest[w:], tag&7)
		if n < 0 {
			return "", remotewrite.Errorf(remotewrite.Invalid, "malformed tenant tuple of a peer")
		}
		if tag == tagTenant {
			id = string(data)
		}
		rest = rest[w+n:]
	}
	if err := tenant.Validate(id); err != nil {
		return "", remotewrite.Errorf(remotewrite.Invalid, "write of a peer: %w", err)
	}
	return id, nil
}

// field returns the size of a field's value, and its bytes when it is
// length-delimited; -1 when it is malformed.
func field(b []byte, wireType uint64) (int, []byte) {
	switch wireType {
	case 0:
		if _, w := binary.Uvarint(b); w > 0 {
			return w, nil
		}
	case 1:
		if len(b) >= 8 {
			return 8, nil
		}
	case 2:
		if n, w := binary.Uvarint(b); w > 0 && n <= uint64(len(b)-w) {
			return w + int(n), b[w : w+int(n) : w+int(n)]
		}
	case 5:
		if len(b) >= 4 {
			return 4, nil
		}
	}
	return -1, nil
}

// toStatus tells a peer what an error means for the data.
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
	return status.Error(code, err.Error())
}
