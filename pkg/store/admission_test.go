package store

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/abort"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/requestid"
	"github.com/hindsight-io/hindsight/pkg/store/pagecache"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

const large = largeBytes + 1

// admittedNow is the numbers of the places that are admitted.
func admittedNow(places []*place) (out []int) {
	for i, p := range places {
		select {
		case <-p.admitted:
			out = append(out, i)
		default:
		}
	}
	return out
}

func TestAdmission_SmallOnesPass(t *testing.T) {
	a := newAdmission(1, time.Minute)
	require.True(t, a.join("t", "1").Expect(large))
	small := a.join("t", "2")
	require.True(t, small.Expect(largeBytes/2))
	require.True(t, small.Expect(largeBytes/2))
	require.False(t, small.Expect(1), "now it is large")
	require.True(t, small.queued())
}

// Nine requests of one tenant do not keep that of another waiting.
func TestAdmission_TenantsTakeTurns(t *testing.T) {
	a := newAdmission(1, time.Minute)
	var places []*place
	for i := range 12 {
		tenant := "many"
		if i >= 9 {
			tenant = "few"
		}
		p := a.join(tenant, fmt.Sprint(i))
		require.Equal(t, i == 0, p.Expect(large))
		places = append(places, p)
	}
	var order []int
	seen := map[int]bool{}
	for range places {
		for _, i := range admittedNow(places) {
			if !seen[i] && places[i].state == placeTaken {
				seen[i] = true
				order = append(order, i)
				places[i].leave()
			}
		}
	}
	require.Equal(t, []int{0, 9, 1, 10, 2, 11, 3, 4, 5, 6, 7, 8}, order)
	require.Empty(t, a.open)
	require.Empty(t, a.served)
}

// The calls of one query have one place: a querier may read the second only when it has
// read the first.
func TestAdmission_CallsOfOneQueryAreTogether(t *testing.T) {
	a := newAdmission(1, time.Minute)
	first := a.join("t", "q")
	require.True(t, first.Expect(large))
	second := a.join("t", "q")
	require.True(t, second.Expect(large))
	require.False(t, a.join("t", "r").Expect(large))
	require.False(t, a.join("u", "q").Expect(large), "another tenant")
	first.leave()
	taken, waiting := a.counts()
	require.Equal(t, []int{1, 2}, []int{taken, waiting})
	second.leave()
	taken, waiting = a.counts()
	require.Equal(t, []int{1, 1}, []int{taken, waiting})
}

// Two requests that were admitted by two gateways in different order wait for each other,
// until the places that are not read are given once more.
func TestAdmission_UnreadPlaceGoesToAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1, time.Minute)
		first, second := a.join("t", "1"), a.join("t", "2")
		require.True(t, first.Expect(large))
		require.False(t, second.Expect(large))
		done := make(chan error)
		go func() { done <- second.Wait(t.Context()) }()
		for range 20 { // while the first one is read
			time.Sleep(unreadPlace / 2)
			first.readAgain(time.Now())
			require.True(t, second.queued())
		}
		start := time.Now()
		require.NoError(t, <-done)
		require.LessOrEqual(t, time.Since(start), unreadPlace+admissionCheck)
	})
}

func TestAdmission_WaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1, 10*time.Second)
		first := a.join("t", "1")
		require.True(t, first.Expect(large))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		reading := make(chan struct{})
		go func() {
			for {
				select {
				case <-reading:
					return
				case <-time.After(unreadPlace / 4):
					first.readAgain(time.Now())
				}
			}
		}()
		defer close(reading)
		second := a.join("t", "2")
		require.False(t, second.Expect(large))
		require.ErrorIs(t, second.Wait(ctx), context.DeadlineExceeded)
		second.leave()
		third := a.join("t", "3")
		require.False(t, third.Expect(large))
		err := third.Wait(t.Context())
		require.ErrorIs(t, err, storeapi.ErrUnavailable)
		require.ErrorContains(t, err, "--store.large-request-wait")
		require.ErrorIs(t, third.Wait(t.Context()), storeapi.ErrUnavailable)
		third.leave()
		require.EqualValues(t, 1, a.refused.Load())
	})
}

func TestAdmission_TooManyWait(t *testing.T) {
	a := newAdmission(1, time.Minute)
	for i := range maxWaiting + 1 {
		a.join("t", fmt.Sprint(i)).Expect(large)
	}
	p := a.join("t", "last")
	require.False(t, p.Expect(large))
	require.ErrorIs(t, p.Wait(t.Context()), storeapi.ErrUnavailable)
	other := a.join("other", "first")
	require.False(t, other.Expect(large))
	require.True(t, other.queued(), "the tenant with the most loses its newest request")
	_, waiting := a.counts()
	require.Equal(t, maxWaiting, waiting)
}

// TestSelect_LargeRequestsWaitWithoutData has twenty large requests at once: all but one
// wait and hold nothing, a small one passes them, and each answer is complete.
func TestSelect_LargeRequestsWaitWithoutData(t *testing.T) {
	bkt := bucket.NewMemory()
	s := shape{blocks: 3, metrics: 4, instances: 60, codes: 2, samples: 480}
	s.fill(t, bkt)
	g := newGateway(t, bkt, "--store.large-requests=1", "--store.grpc.series-max-concurrency=2")
	g.admission.large = 64 << 10
	all := request(s, matcher(labels.MatchRegexp, "__name__", ".+"))
	first := g.Select(t.Context(), all)
	want, err := text(first)
	require.NoError(t, err)
	require.NoError(t, first.Close())
	require.Equal(t, 480, strings.Count(want, "__name__="))

	var sets []storeapi.SeriesSet
	for i := range 20 {
		sets = append(sets, g.Select(requestid.NewContext(t.Context(), fmt.Sprint(i)), all))
	}
	require.Eventually(t, func() bool {
		taken, waiting := g.admission.counts()
		return taken == 1 && waiting == 19
	}, 10*time.Second, time.Millisecond)
	one := sets[0]
	for _, set := range sets {
		if !set.(storeapi.QueuedSet).Queued() {
			one = set
		}
	}
	require.True(t, one.Next())
	alone := g.budget.Used()
	require.Positive(t, alone)
	require.LessOrEqual(t, alone, int64(3*3*maxBatch), "three blocks with three batches at most")

	small := g.Select(t.Context(), request(s, matcher(labels.MatchEqual, "__name__", "metric_001_total"), matcher(labels.MatchEqual, "instance", "10.0.0.7:9100")))
	got, err := text(small)
	require.NoError(t, err)
	require.Equal(t, 2, strings.Count(got, "__name__="))
	require.NoError(t, small.Close())
	require.NoError(t, one.Close())
	read := 0
	for range sets {
		for i, set := range sets {
			if set == nil || set == one || set.(storeapi.QueuedSet).Queued() {
				continue
			}
			got, err := text(set)
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.NoError(t, set.Close())
			sets[i] = nil
			read++
		}
	}
	require.Equal(t, 19, read)
	require.Zero(t, g.budget.Used())
	taken, waiting := g.admission.counts()
	require.Zero(t, taken+waiting)
}

// Batches of large requests are read a few at a time, and small requests need no turn.
func TestAdmission_TurnsAreForLargeRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(2, time.Minute)
		a.turns = make(chan struct{}, 1)
		one, two, small := a.join("t", "1"), a.join("t", "2"), a.join("t", "3")
		require.True(t, one.Expect(large))
		require.True(t, two.Expect(large))
		require.True(t, small.Expect(1))
		done, err := one.Turn(t.Context())
		require.NoError(t, err)
		got := make(chan func())
		go func() {
			done, err := two.Turn(t.Context())
			if err != nil {
				t.Error(err)
			}
			got <- done
		}()
		synctest.Wait()
		pass, err := small.Turn(t.Context())
		require.NoError(t, err)
		pass()
		select {
		case <-got:
			t.Fatal("two turns at once")
		default:
		}
		done()
		(<-got)()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		a.turns <- struct{}{}
		_, err = one.Turn(ended)
		require.ErrorIs(t, err, context.Canceled)
	})
}

// Thirty requests that nobody reads, as of a client that was stopped, keep those that come
// after them waiting for some seconds together, not for one each.
func TestAdmission_ManyUnreadPlacesGoOnSooner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1, time.Minute)
		start := time.Now()
		var waits sync.WaitGroup
		for i := range 30 {
			p := a.join("t", fmt.Sprint(i))
			if !p.Expect(large) {
				waits.Go(func() { assert.NoError(t, p.Wait(t.Context())) })
			}
		}
		synctest.Wait()
		last := a.join("t", "last")
		require.False(t, last.Expect(large))
		require.NoError(t, last.Wait(t.Context()))
		require.Less(t, time.Since(start), 10*unreadPlace)
		waits.Wait()
	})
}

// A request that was admitted after a long wait is not one that its client left unread:
// others that need memory do not end it.
func TestSelect_AdmittedRequestIsNotUnread(t *testing.T) {
	bkt := bucket.NewMemory()
	s := shape{blocks: 1, metrics: 4, instances: 60, codes: 2, samples: 480}
	s.fill(t, bkt)
	g := newGateway(t, bkt, "--store.large-requests=1")
	g.admission.large = 1
	all := request(s, matcher(labels.MatchRegexp, "__name__", ".+"))
	blocking := g.admission.join("t", "first")
	require.True(t, blocking.Expect(2))
	ctx, end := abort.With(t.Context())
	defer end(nil)
	set := g.Select(ctx, all)
	first := make(chan bool)
	go func() { first <- set.Next() }()
	require.Eventually(t, func() bool { return set.(storeapi.QueuedSet).Queued() }, 10*time.Second, time.Millisecond)
	set.(*gatewaySet).account.Read(time.Now().Add(-time.Minute)) // the wait
	blocking.leave()
	require.True(t, <-first)
	require.Positive(t, g.budget.Used())

	done, cancel := context.WithCancel(t.Context())
	cancel()
	other := &pagecache.Account{Budget: g.budget, Abort: func(error) {}}
	require.ErrorIs(t, other.Hold(done, g.cfg.ChunkPoolSize.Int64()), context.Canceled)
	require.NoError(t, context.Cause(ctx))
	require.NoError(t, set.Close())
}
