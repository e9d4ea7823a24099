package prom

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/httpclient"
)

// stoppable answers a request after the delay of its path, unless it is stopped: then it
// holds all requests, as a process that got SIGSTOP.
type stoppable struct {
	mu             sync.Mutex
	resumed        chan struct{} // closed while it runs
	delays         map[string]time.Duration
	probes, others int
}

func newStoppable() *stoppable {
	s := &stoppable{resumed: make(chan struct{}), delays: map[string]time.Duration{}}
	close(s.resumed)
	return s
}

func (s *stoppable) stop() { s.mu.Lock(); defer s.mu.Unlock(); s.resumed = make(chan struct{}) }

func (s *stoppable) gate() (resumed chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resumed
}

// counts returns how many probes and other requests there were.
func (s *stoppable) counts() (probes, others int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.probes, s.others
}

// wait waits for d and then until the server runs.
func (s *stoppable) wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-s.gate():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *stoppable) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	if r.URL.Path == "/probe" {
		s.probes++
	} else {
		s.others++
	}
	delay := s.delays[r.URL.Path]
	s.mu.Unlock()
	if err := s.wait(r.Context(), delay); err != nil {
		return nil, err
	}
	body := io.NopCloser(strings.NewReader("x"))
	if r.URL.Path == "/stream" {
		body = io.NopCloser(&trickle{s: s, ctx: r.Context()})
	}
	return &http.Response{StatusCode: http.StatusOK, Body: body, Header: http.Header{}}, nil
}

// trickle is a body of 60 bytes, one each second.
type trickle struct {
	s    *stoppable
	ctx  context.Context
	sent int
}

func (t *trickle) Read(p []byte) (int, error) {
	if t.sent == 60 {
		return 0, io.EOF
	}
	if err := t.s.wait(t.ctx, time.Second); err != nil {
		return 0, err
	}
	t.sent++
	p[0] = 'x'
	return 1, nil
}

// get reads an answer, and returns the time that took.
func (s *stoppable) get(ctx context.Context, l *liveness, path string) (time.Duration, error) {
	start := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://prometheus.example"+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := (&http.Client{Transport: l}).Do(req)
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	return time.Since(start), err
}

// withStoppable runs test with a server in a bubble of synctest.
func withStoppable(t *testing.T, test func(t *testing.T, s *stoppable, l *liveness)) {
	synctest.Test(t, func(t *testing.T) {
		s := newStoppable()
		l := newLiveness(s, s, "http://prometheus.example/probe")
		defer l.stop()
		test(t, s, l)
	})
}

func TestLiveness_EndsRequestsToAStoppedServer(t *testing.T) {
	for _, path := range []string{"/api", "/stream"} {
		withStoppable(t, func(t *testing.T, s *stoppable, l *liveness) {
			stop := time.AfterFunc(10*time.Millisecond, s.stop) // a stream has begun
			defer stop.Stop()
			s.delays["/api"] = 20 * time.Millisecond
			took, err := s.get(t.Context(), l, path)
			require.ErrorIs(t, err, ErrNotAnswering)
			require.Equal(t, slowAfter+minPatience, took)

			_, others := s.counts()
			took, err = s.get(t.Context(), l, path)
			require.ErrorIs(t, err, ErrNotAnswering)
			require.Zero(t, took, "later requests do not wait")
			probes, now := s.counts()
			require.Equal(t, others, now, "later requests are not sent")

			time.Sleep(5 * time.Minute)
			after, _ := s.counts()
			require.LessOrEqual(t, after, probes+10, "one probe at a time")
			close(s.gate())
			time.Sleep(probePause)
			synctest.Wait()
			_, err = s.get(t.Context(), l, "/api")
			require.NoError(t, err)
			probes, _ = s.counts()
			time.Sleep(time.Minute)
			after, _ = s.counts()
			require.LessOrEqual(t, after, probes+1, "a server that answers is not probed")
		})
	}
}

func TestLiveness_LeavesSlowRequestsAlone(t *testing.T) {
	for path, delay := range map[string]time.Duration{"/slow": time.Minute, "/stream": 0} {
		withStoppable(t, func(t *testing.T, s *stoppable, l *liveness) {
			s.delays[path] = delay
			took, err := s.get(t.Context(), l, path)
			require.NoError(t, err)
			require.Equal(t, time.Minute, took)
			probes, _ := s.counts()
			require.InDelta(t, 60, probes, 2, "one probe a second")
		})
	}
	// Everything is slow, also a probe, and data flows.
	withStoppable(t, func(t *testing.T, s *stoppable, l *liveness) {
		s.delays["/probe"] = 25 * time.Second
		_, err := s.get(t.Context(), l, "/stream")
		require.NoError(t, err)
	})
}

// A server that needs longer for a probe than was expected gets more time.
func TestLiveness_AdaptsToAnOverloadedServer(t *testing.T) {
	withStoppable(t, func(t *testing.T, s *stoppable, l *liveness) {
		s.delays["/probe"], s.delays["/api"] = 4*time.Second, 10*time.Second
		_, err := s.get(t.Context(), l, "/api")
		require.ErrorIs(t, err, ErrNotAnswering)
		time.Sleep(2 * time.Second)
		_, err = s.get(t.Context(), l, "/api")
		require.NoError(t, err)
	})
}

// Requests end as their callers wish, and leave nothing behind.
func TestLiveness_ReturnsTheErrorOfTheCaller(t *testing.T) {
	withStoppable(t, func(t *testing.T, s *stoppable, l *liveness) {
		s.stop()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := s.get(ctx, l, "/api")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, ErrNotAnswering)
		require.Zero(t, l.slow)
	})
}

// The answer to a probe comes at the moment at which the server counts as not answering.
func TestLiveness_ProbeAnsweredAtTheLastMoment(t *testing.T) {
	for range 100 {
		withStoppable(t, func(t *testing.T, s *stoppable, l *liveness) {
			s.delays["/probe"], s.delays["/api"] = minPatience, slowAfter+minPatience/2
			_, err := s.get(t.Context(), l, "/api")
			require.NoError(t, err)
			time.Sleep(time.Minute)
			_, err = s.get(t.Context(), l, "/api")
			require.NoError(t, err, "the server answers")
		})
	}
}

// Requests that use all the connections that the configuration allows delay no probe.
func TestLiveness_ProbesOnConnectionsOfItsOwn(t *testing.T) {
	held, end := make(chan struct{}), make(chan struct{})
	probed := make(chan struct{}, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/-/reload" {
			probed <- struct{}{}
			return
		}
		close(held)
		<-end
	}))
	defer srv.Close()
	base, err := url.Parse(srv.URL)
	require.NoError(t, err)
	cfg := httpclient.Default()
	cfg.Transport.MaxConnsPerHost = 1
	c, err := New(base, cfg, "test")
	require.NoError(t, err)
	defer c.Close()
	reloaded := make(chan error, 1)
	go func() { reloaded <- c.Reload(t.Context()) }()
	defer func() {
		close(end)
		require.NoError(t, <-reloaded)
	}()
	<-held
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	c.live.probeOnce(ctx)
	require.NoError(t, ctx.Err(), "the probe has an answer")
	require.Len(t, probed, 1)
}
