package storerpc

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// kinds is the one table between our kinds of error and status codes. The first
// kind that an error has decides.
func kinds() []kindCode {
	return []kindCode{
		{storeapi.ErrPartial, codes.Aborted},
		{storeapi.ErrInvalid, codes.InvalidArgument},
		{storeapi.ErrNotFound, codes.NotFound},
		{limit.ErrExceeded, codes.ResourceExhausted},
		{storeapi.ErrUnavailable, codes.Unavailable},
		{ErrSettings, codes.FailedPrecondition},
		{context.Canceled, codes.Canceled},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
	}
}

type kindCode struct {
	kind error
	code codes.Code
}

// toStatus makes the error of a Store one that gRPC sends with the right code
// and the whole text.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	for _, k := range kinds() {
		if errors.Is(err, k.kind) {
			return status.Error(k.code, errorid.TextOf(err))
		}
	}
	if s, ok := status.FromError(err); ok {
		return status.Error(s.Code(), errorid.TextOf(err))
	}
	return status.Error(codes.Internal, errorid.TextOf(err))
}

// fromStatus makes the error of a call one that has our kind.
func fromStatus(err error) error {
	if err == nil {
		return nil
	}
	err = errorid.Strip(err)
	code := status.Code(err)
	for _, k := range kinds() {
		if k.code == code {
			return &remoteError{kind: k.kind, err: err}
		}
	}
	return &remoteError{err: err}
}

// remoteError is a status error, its text cut to what can be read, that also is of
// one of our kinds; kind is nil for other codes.
type remoteError struct {
	kind, err error
}

func (e *remoteError) Error() string { return clip(e.err.Error()) }

func (e *remoteError) Unwrap() []error {
	if e.kind == nil {
		return []error{e.err}
	}
	return []error{e.err, e.kind}
}
