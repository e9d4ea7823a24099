package store

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// flakyPoller fails while a test wants it, and counts the calls.
type flakyPoller struct {
	Poller
	polls atomic.Int64
	fail  atomic.Bool
}

func (p *flakyPoller) Poll(ctx context.Context) (*blocklist.View, error) {
	p.polls.Add(1)
	if p.fail.Load() {
		return nil, errors.New("no listing today")
	}
	return p.Poller.Poll(ctx)
}

// TestRun_ListsAndRetries runs the gateway in virtual time.
func TestRun_ListsAndRetries(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	bkt := bucket.NewMemory()
	b := writeBlock(t, rng, 0, 2*hour, 3, map[string]string{"cluster": "c"})
	b.upload(t, bkt)
	g := newGateway(t, bkt, "--sync-block-duration=15m", "--store.disk-cache-size=0")
	g.listed.Store(nil) // as if it had not listed yet
	r := &storeapi.Request{MinTime: 0, MaxTime: 2 * hour, Matchers: []*labels.Matcher{matcher(labels.MatchRegexp, "n", ".+")}}
	synctest.Test(t, func(t *testing.T) {
		p := &flakyPoller{Poller: g.deps.Poller}
		p.fail.Store(true)
		g.deps.Poller, g.resync = p, make(chan struct{}, 1)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- g.Run(ctx) }()

		synctest.Wait()
		require.Error(t, g.Ready())
		require.Equal(t, int64(1), p.polls.Load())
		time.Sleep(45 * time.Second)
		synctest.Wait()
		require.Equal(t, int64(2), p.polls.Load(), "a failed listing is tried again soon")
		p.fail.Store(false)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		require.NoError(t, g.Ready())
		require.Equal(t, int64(3), p.polls.Load())
		time.Sleep(31 * time.Minute)
		synctest.Wait()
		require.Equal(t, int64(5), p.polls.Load())

		require.NoError(t, bkt.Delete(ctx, b.meta.ULID.String()+"/chunks/000001"))
		for range 5 {
			_, ws := readPartial(t, g.Select(ctx, r), r)
			require.Len(t, ws, 1)
			require.Contains(t, ws[0], "not found")
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.LessOrEqual(t, p.polls.Load(), int64(7), "missing objects ask for listings, but not for many")
		require.Greater(t, p.polls.Load(), int64(5))
		cancel()
		require.NoError(t, <-ended)
	})
}

// A listing that is asked for does not put off the next one, which comes sooner.
func TestRun_AskedListingDelaysNoOther(t *testing.T) {
	g := newGateway(t, bucket.NewMemory(), "--sync-block-duration=1s", "--store.disk-cache-size=0")
	synctest.Test(t, func(t *testing.T) {
		p := &flakyPoller{Poller: g.deps.Poller}
		g.deps.Poller, g.resync = p, make(chan struct{}, 1)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- g.Run(ctx) }()
		time.Sleep(10500 * time.Millisecond)
		before := p.polls.Load()
		g.resync <- struct{}{}
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, before+1, p.polls.Load())
		cancel()
		require.NoError(t, <-ended)
	})
}

// Before the first listing, and after the end, an answer would look complete.
func TestNotListed_EveryRequestFails(t *testing.T) {
	bkt := bucket.NewMemory()
	writeBlock(t, rand.New(rand.NewPCG(1, 2)), 0, 2*hour, 3, map[string]string{"cluster": "c"}).upload(t, bkt)
	g := newGateway(t, bkt, "--store.disk-cache-size=0")
	r := &storeapi.Request{MinTime: 0, MaxTime: 2 * hour, Matchers: []*labels.Matcher{matcher(labels.MatchRegexp, "n", ".+")}}
	check := func(g *Gateway, want error) {
		t.Helper()
		set := g.Select(t.Context(), r)
		for set.Next() {
		}
		require.ErrorIs(t, set.Err(), want)
		if want != nil {
			require.Equal(t, errorid.NotReady, errorid.Of(set.Err()))
		}
		require.NoError(t, set.Close())
		_, _, err := g.LabelNames(t.Context(), r)
		require.ErrorIs(t, err, want)
		_, _, err = g.LabelValues(t.Context(), "n", r)
		require.ErrorIs(t, err, want)
	}
	check(g, nil)
	early, err := New(g.cfg, Deps{Logger: g.log, Bucket: bkt})
	require.NoError(t, err)
	check(early, storeapi.ErrUnavailable)
	early.close()
	g.close()
	check(g, storeapi.ErrUnavailable)
}
