package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// statusKey is the key of a *statusRecorder in the context of an operation.
type statusKey struct{}

// statusRecorder remembers the status of the last HTTP response in an
// operation. For several providers, objstore reports "forbidden" and "no such bucket"
// in no other form.
type statusRecorder struct {
	last atomic.Int64
	// etag is the ETag of the last response, a string.
	etag atomic.Value
	// silent says that a request of the operation got no answer in time.
	silent atomic.Bool
}

// version is the version of the object in the last response.
func (s *statusRecorder) version() string {
	v, _ := s.etag.Load().(string)
	return v
}

func withStatus(ctx context.Context) (context.Context, *statusRecorder) {
	s := &statusRecorder{}
	return context.WithValue(ctx, statusKey{}, s), s
}

// stallTimeout is how long a server may send nothing in the middle of an answer. The
// timeouts of HTTP clients end with the header, so that without it a stalled connection
// would block its reader for ever.
const stallTimeout = time.Minute

// errSilent ends an operation one of whose requests got no answer in the time of
// http_config. The client of S3 would send it ten times, of two minutes each.
var errSilent = errorid.Sentinel(errorid.Timeout, "object storage did not answer in time")

var errStalled = errorid.Sentinel(errorid.BucketStalled, "object storage stalled in the middle of an answer")

// transport records the status of responses, sets the user agent, and aborts answers
// that stall.
type transport struct {
	next      http.RoundTripper
	userAgent string
	stall     time.Duration
}

// ended returns the error of a context that has ended. In a process that was stopped for
// some time the timer of a deadline may not have run yet.
func ended(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && ctx.Err() == nil && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// RoundTrip sends no request whose context has ended, see the leases of the compactor, and
// none of an operation of which a request got no answer in time.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := ended(req.Context()); err != nil {
		return nil, err
	}
	s, ok := req.Context().Value(statusKey{}).(*statusRecorder)
	if ok && s.silent.Load() {
		return nil, errSilent
	}
	caller := req.Context()
	ctx, cancel := context.WithCancelCause(caller)
	req = req.Clone(ctx)
	req.Header.Set("User-Agent", t.userAgent)
	addCondition(req)
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		cancel(nil)
		if ok {
			s.last.Store(0)
			if slow := net.Error(nil); errors.As(err, &slow) && slow.Timeout() && caller.Err() == nil {
				s.silent.Store(true)
				err = fmt.Errorf("%w: %w", errSilent, err)
			}
		}
		return nil, err
	}
	if ok {
		s.last.Store(int64(resp.StatusCode))
		s.etag.Store(resp.Header.Get("Etag"))
	}
	b := &watchedBody{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, limit: t.stall}
	b.timer = time.AfterFunc(t.stall, func() { cancel(errStalled) })
	b.timer.Stop()
	resp.Body = b
	return resp, nil
}

// watchedBody limits the time of each Read, but not the time between two.
type watchedBody struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.limit)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) && errors.Is(context.Cause(b.ctx), errStalled) {
		// The caller has not cancelled the operation, so that it may be tried again.
		err = fmt.Errorf("%w for %s", errStalled, b.limit)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.timer.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
