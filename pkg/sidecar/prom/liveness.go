package prom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// ErrNotAnswering says that the server is reached but answers nothing, not even a
// request that costs it nothing: its process is stopped, or the host is out of memory.
var ErrNotAnswering = errorid.Sentinel(errorid.PrometheusDown, "Prometheus holds requests without an answer")

const (
	// slowAfter is how long a request runs before the server is probed.
	slowAfter = time.Second
	// minPatience and maxPatience bound how long a probe waits before the server counts
	// as not answering. In between it is twice the time of the last answer to a probe, so
	// that a server that is overloaded is not taken for one that is stopped.
	minPatience = 3 * time.Second
	maxPatience = 20 * time.Second
	// probePause is the time between two probes, and probeTimeout bounds one.
	probePause   = time.Second
	probeTimeout = 30 * time.Second
)

// liveness is an http.RoundTripper that ends requests to a server that does not answer.
//
// While a request takes longer than slowAfter, it probes the server with a cheap one.
// When a probe has no answer in time, and no request has received anything meanwhile,
// all requests fail with ErrNotAnswering, the running ones and those that begin, until a
// probe has an answer. So a request that is slow by itself may take any time, a stopped
// server costs the first requests a few seconds, and later ones nothing. A server whose
// answers are fast is not probed.
//
// It may be used concurrently.
type liveness struct {
	next http.RoundTripper
	// probes has connections of its own: those of next may all be in use by requests
	// that are slow, and limited in number.
	probes http.RoundTripper
	url    string // that is probed

	running sync.WaitGroup // the goroutine that probes

	mu     sync.Mutex
	closed bool
	// requests are those that run.
	requests map[*liveRequest]struct{}
	// silent is the reason while the server does not answer, nil otherwise.
	silent error
	// slow is the number of requests that have run for longer than slowAfter.
	slow int
	// endProbes ends the goroutine that probes; nil while there is none.
	endProbes context.CancelFunc
	patience  time.Duration
	// received is when a request last received something.
	received time.Time
}

func newLiveness(next, probes http.RoundTripper, url string) *liveness {
	return &liveness{next: next, probes: probes, url: url, patience: minPatience, requests: map[*liveRequest]struct{}{}}
}

// stop ends the probes and waits for them.
func (l *liveness) stop() {
	l.mu.Lock()
	l.closed = true
	if l.endProbes != nil {
		l.endProbes()
	}
	l.mu.Unlock()
	l.running.Wait()
}

// RoundTrip implements http.RoundTripper.
func (l *liveness) RoundTrip(req *http.Request) (*http.Response, error) {
	r, err := l.begin(req)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	resp, err := l.next.RoundTrip(req.WithContext(r.ctx))
	if err != nil {
		err = r.errorOf(err)
		r.end()
		return nil, err
	}
	l.receive()
	r.ReadCloser, resp.Body = resp.Body, r
	return resp, nil
}

// begin counts a request as running, unless the server does not answer.
func (l *liveness) begin(req *http.Request) (*liveRequest, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.silent != nil {
		return nil, l.silent
	}
	r := &liveRequest{l: l}
	r.ctx, r.cancel = context.WithCancelCause(req.Context())
	r.timer = time.AfterFunc(slowAfter, r.becomesSlow)
	l.requests[r] = struct{}{}
	return r, nil
}

// silence ends all requests. It needs the lock.
func (l *liveness) silence(why error) {
	l.silent = why
	for r := range l.requests {
		r.cancel(why)
	}
}

// receive notes that the server has sent something.
func (l *liveness) receive() {
	l.mu.Lock()
	l.received = time.Now()
	l.mu.Unlock()
}

// CloseIdleConnections is called by http.Client.
func (l *liveness) CloseIdleConnections() {
	(&http.Client{Transport: l.next}).CloseIdleConnections()
	(&http.Client{Transport: l.probes}).CloseIdleConnections()
}

// liveRequest is a request that runs, and the body of its answer.
type liveRequest struct {
	io.ReadCloser
	l      *liveness
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer

	slow, ended bool // guarded by l.mu
}

// becomesSlow runs when the request has taken slowAfter.
func (r *liveRequest) becomesSlow() {
	l := r.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.ended || r.slow {
		return
	}
	r.slow = true
	l.slow++
	if l.endProbes == nil && !l.closed {
		// The probes outlive the request that begins them.
		ctx, cancel := context.WithCancel(context.WithoutCancel(r.ctx))
		l.endProbes = cancel
		l.running.Go(func() { l.probe(ctx) })
	}
}

// errorOf returns the error of a request that failed with err.
func (r *liveRequest) errorOf(err error) error {
	if cause := context.Cause(r.ctx); errors.Is(cause, ErrNotAnswering) {
		return cause
	}
	return err
}

func (r *liveRequest) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if n > 0 {
		r.l.receive()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.errorOf(err)
	}
	return n, err
}

func (r *liveRequest) Close() error {
	err := r.ReadCloser.Close()
	r.end()
	return err
}

// end is called when the request has ended, or more often.
func (r *liveRequest) end() {
	r.timer.Stop()
	r.cancel(nil)
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	delete(r.l.requests, r)
	if r.slow && !r.ended {
		r.l.slow--
	}
	r.ended = true
}

// probe probes the server until it answers and no request is slow, or ctx is cancelled.
func (l *liveness) probe(ctx context.Context) {
	for {
		l.probeOnce(ctx)
		l.mu.Lock()
		if l.slow == 0 && l.silent == nil || ctx.Err() != nil {
			l.endProbes()
			l.endProbes = nil
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(probePause):
		}
	}
}

// probeOnce sends one request. Any answer shows that the server runs, also that it knows
// no such path. An error ends no request: those that run fail by themselves.
func (l *liveness) probeOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url, nil)
	if err != nil {
		return
	}
	start := time.Now()
	l.mu.Lock()
	patience := l.patience
	ended := false // guarded by l.mu; Stop does not end a function that waits for it
	var late *time.Timer
	late = time.AfterFunc(patience, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if ended {
			return
		}
		if left := patience - time.Since(l.received); left > 0 {
			late.Reset(left)
			return
		}
		l.silence(fmt.Errorf("%w: none to GET %s within %s", ErrNotAnswering, l.url, patience))
	})
	l.mu.Unlock()
	resp, err := l.probes.RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	ended = true
	late.Stop()
	if err != nil && ctx.Err() != nil {
		return // no answer within probeTimeout, or closed
	}
	l.patience = minPatience
	if err == nil {
		l.patience = min(max(2*time.Since(start), minPatience), maxPatience)
	}
	l.silent = nil
}
