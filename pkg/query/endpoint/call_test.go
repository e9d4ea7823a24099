package endpoint

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/connectivity"

	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func TestPace_FollowsLatencyWithinItsBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pace{most: time.Hour}
		short, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		defer cancel()
		require.Equal(t, time.Hour, p.Limit(t.Context()), "nothing is known")
		require.Equal(t, 3*time.Minute, p.Limit(short), "the answers of others must arrive")
		hurried, stop := context.WithTimeout(t.Context(), paceFloor-time.Second)
		defer stop()
		require.Equal(t, time.Hour, p.Limit(hurried), "the query times out before the store does")
		for range paceWindow {
			p.Waited(time.Millisecond)
		}
		require.Equal(t, paceFloor, p.Limit(short))
		p.Waited(5 * time.Second)
		require.Equal(t, 50*time.Second, p.Limit(short), "a slow store gets more time")
		// A store that has become slower is not stopped for ever.
		p.Waited(50 * time.Second)
		require.Equal(t, 500*time.Second, p.Limit(t.Context()))
		for range paceWindow {
			p.Waited(time.Millisecond)
		}
		require.Equal(t, paceFloor, p.Limit(short))
		p = &pace{}
		require.Zero(t, p.Limit(t.Context()))
	})
}

// steady is a client whose stream sends a series each second, and whose other
// calls hang.
type steady struct {
	fakeClient
	dead error
	// hung lets Refresh wait until its context ends.
	hung bool
}

func (c *steady) Refresh(ctx context.Context) error {
	if c.hung {
		<-ctx.Done()
		return ctx.Err()
	}
	return c.dead
}

func (c *steady) State() connectivity.State { return connectivity.Ready }

func (c *steady) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	return &ticking{SeriesSet: storeapi.EmptySet(), ctx: ctx, hangs: r.SkipChunks}
}

func (c *steady) LabelNames(ctx context.Context, _ *storeapi.Request) ([]string, storeapi.Warnings, error) {
	<-ctx.Done()
	return nil, nil, ctx.Err()
}

type ticking struct {
	storeapi.SeriesSet
	ctx   context.Context
	hangs bool
	n     int
}

func (s *ticking) Next() bool {
	if s.hangs {
		<-s.ctx.Done()
	} else if s.n++; s.n > 60 {
		return false
	}
	select {
	case <-s.ctx.Done():
		return false
	case <-time.After(time.Second):
		return true
	}
}

func (s *ticking) Err() error {
	if s.n > 60 {
		return nil
	}
	return s.ctx.Err()
}

// A store that goes down ends the calls that wait for it; a stream that makes
// progress is not one of them.
func TestEndpoint_DownEndsCallsThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &steady{}
		e := &Endpoint{name: "a:1", client: c, logger: slog.New(slog.DiscardHandler)}
		e.refresh(t.Context(), time.Second, time.Now)
		hanging := e.Select(t.Context(), &storeapi.Request{SkipChunks: true})
		moving := e.Select(t.Context(), &storeapi.Request{})
		ended := make(chan error, 2)
		go func() { hanging.Next(); ended <- hanging.Err() }()
		go func() {
			_, _, err := e.LabelNames(t.Context(), &storeapi.Request{})
			ended <- err
		}()
		n := make(chan int)
		go func() {
			series := 0
			for moving.Next() {
				series++
			}
			n <- series
		}()
		synctest.Wait()
		time.Sleep(5*time.Second + time.Millisecond)
		c.dead = errors.New("not ready")
		e.refresh(t.Context(), 2*time.Second, time.Now)
		synctest.Wait()
		require.Len(t, e.calls.running, 3, "the server is alive")
		c.hung = true
		e.refresh(t.Context(), 2*time.Second, time.Now)
		for range 2 {
			err := <-ended
			require.ErrorIs(t, err, storeapi.ErrUnavailable)
			require.ErrorContains(t, err, "store a:1 is missing")
			require.Equal(t, reason.StoreDown, storeapi.ReasonOf(err))
		}
		require.NoError(t, hanging.Close())
		got := <-n
		require.NoError(t, moving.Close())
		require.Equal(t, 60, got)
		require.Empty(t, e.calls.running)
	})
}

// The answers of the other stores arrive before the request's time is over.
func TestEndpoint_HangingCallEndsBeforeRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &Endpoint{name: "a:1", client: &steady{}, logger: slog.New(slog.DiscardHandler)}
		e.refresh(t.Context(), time.Second, time.Now)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		_, _, err := e.LabelNames(ctx, &storeapi.Request{})
		require.Equal(t, 45*time.Second, time.Since(start))
		require.ErrorIs(t, err, storeapi.ErrSilent)
		require.Equal(t, reason.StoreTimeout, storeapi.ReasonOf(err))
		require.NoError(t, ctx.Err())
		require.Empty(t, e.calls.running)
	})
}
