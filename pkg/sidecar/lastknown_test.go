package sidecar

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom/promtest"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Fifty queriers that ask for everything at once are one request for each API to a
// real HTTP server, and while it fails they all get the last known state.
func TestLastKnown_ManyQueriersAreOneRequest(t *testing.T) {
	const queriers = 50
	data := listed()
	data["/api/v1/metadata"] = `{"up":[{"type":"gauge","help":"h","unit":""}],"x":[{"type":"counter","help":"","unit":""}]}`
	data["/api/v1/query_exemplars"] = `[{"seriesLabels":{"__name__":"m"},"exemplars":[
		{"labels":{"trace_id":"1"},"value":"1","timestamp":1700000000.000},{"labels":{"trace_id":"2"},"value":"2","timestamp":1700000003.000}]}]`
	var mu sync.Mutex
	asked := map[string]int{}
	hold := make(chan struct{})
	var down atomic.Bool
	s := promtest.New(t, promtest.Options{ExternalLabels: one("cluster", "eu"), Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			d, ok := data[r.URL.Path]
			if !ok {
				next.ServeHTTP(w, r)
				return
			}
			mu.Lock()
			asked[r.URL.Path]++
			mu.Unlock()
			if down.Load() {
				http.Error(w, "starting", http.StatusServiceUnavailable)
				return
			}
			<-hold
			fmt.Fprintf(w, `{"status":"success","data":%s}`, d)
		})
	}})
	st := newStore(t, s)
	reg := prometheus.NewRegistry()
	st.answers = newLastKnown(1<<20, reg)
	defer st.answers.close()

	// askAll returns the warnings of all answers.
	askAll := func() []string {
		var wg sync.WaitGroup
		var all []string
		note := func(n int, want int, ws storeapi.Warnings, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil || n != want {
				all = append(all, fmt.Sprintf("%d results instead of %d, error %v", n, want, err))
			}
			all = append(all, ws.Strings()...)
		}
		for i := range queriers {
			wg.Go(func() {
				groups, ws, err := st.Rules(t.Context(), &storeapi.RulesRequest{Type: storeapi.RuleType(i % 3)})
				note(len(groups), 1, ws, err)
			})
			wg.Go(func() {
				targets, ws, err := st.Targets(t.Context(), &storeapi.TargetsRequest{State: storeapi.TargetActive})
				note(len(targets.Active), 1, ws, err)
			})
			wg.Go(func() {
				stats, ws, err := st.TSDBStatus(t.Context(), &storeapi.TSDBStatusRequest{Limit: 1 + i%10})
				note(len(stats[""].SeriesByMetric), min(1+i%10, 2), ws, err)
			})
			wg.Go(func() {
				meta, ws, err := st.Metadata(t.Context(), "", -1)
				note(len(meta), 2, ws, err)
			})
			wg.Go(func() {
				found, ws, err := st.Exemplars(t.Context(), &storeapi.ExemplarRequest{
					MinTime: 1_700_000_000_000 + int64(i), MaxTime: 1_700_000_003_000 + int64(i), Selectors: [][]*labels.Matcher{{eq("__name__", "m")}},
				})
				// Only the first querier's range begins with the first exemplar.
				note(len(found[0].Exemplars), map[bool]int{true: 2, false: 1}[i == 0], ws, err)
			})
		}
		if !down.Load() {
			require.Eventually(t, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(asked) == 4 // the fifth waits for one of them
			}, 10*time.Second, time.Millisecond)
			close(hold)
		}
		wg.Wait()
		return all
	}
	each := func(n int) map[string]int {
		return map[string]int{
			"/api/v1/rules": n, "/api/v1/targets": n, "/api/v1/status/tsdb": n, "/api/v1/metadata": n, "/api/v1/query_exemplars": n,
		}
	}
	require.Empty(t, askAll())
	require.Equal(t, each(1), asked)
	require.Positive(t, testutil.ToFloat64(st.answers.metrics.bytes))

	// The answers are too old, and the server fails.
	down.Store(true)
	st.answers.mu.Lock()
	for _, k := range st.answers.kept {
		k.at = time.Unix(1_700_000_000, 0)
	}
	st.answers.mu.Unlock()
	ws := askAll()
	require.Len(t, ws, 5*queriers)
	for _, w := range ws {
		require.Contains(t, w, "last known state of 2023-11-14T22:13:20Z, Prometheus does not answer: ")
		require.Contains(t, w, "503")
	}
	require.Equal(t, each(2), asked)

	// All targets are answered from the active ones, one metric from the list of all.
	targets, tws, err := st.Targets(t.Context(), &storeapi.TargetsRequest{})
	require.NoError(t, err)
	require.Len(t, targets.Active, 1)
	require.Contains(t, tws[0].Text, "last known state")
	_, _, err = st.Targets(t.Context(), &storeapi.TargetsRequest{State: storeapi.TargetDropped})
	require.ErrorIs(t, err, storeapi.ErrUnavailable)
	meta, mws, err := st.Metadata(t.Context(), "up", 1)
	require.NoError(t, err)
	require.Len(t, meta, 1)
	require.Contains(t, mws[0].Text, "last known state")
	_, _, err = st.Exemplars(t.Context(), &storeapi.ExemplarRequest{MaxTime: 5, Selectors: [][]*labels.Matcher{{eq("__name__", "never asked")}}})
	require.ErrorIs(t, err, storeapi.ErrUnavailable)
	text, err := testutil.CollectAndFormat(reg, expfmt.TypeTextPlain, "hindsight_sidecar_api_answers_total")
	require.NoError(t, err)
	require.Contains(t, string(text), `{api="rules",from="prometheus"} 2`)
	require.Contains(t, string(text), fmt.Sprintf(`{api="rules",from="last_known"} %d`, queriers))
}

// answers is a server in a bubble of fake time.
type answers struct {
	asked atomic.Int64
	mu    sync.Mutex
	err   error
	delay time.Duration
	size  int64
}

func (a *answers) set(delay time.Duration, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.delay, a.err = delay, err
}

func (a *answers) fetch(ctx context.Context) (prom.Answer[int64], error) {
	n := a.asked.Add(1)
	a.mu.Lock()
	delay, err := a.delay, a.err
	a.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return prom.Answer[int64]{}, ctx.Err()
	}
	return prom.Answer[int64]{Data: n, Bytes: a.size}, err
}

func TestLastKnown_AsksAgainWhenOldAndAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLastKnown(1000, nil)
		defer l.close()
		a := &answers{size: 10}
		q := question{api: "rules"}
		get := func(want int64, down bool) {
			t.Helper()
			k, err := ask(t.Context(), l, q, a.fetch)
			require.NoError(t, err)
			require.Equal(t, want, k.Data)
			require.Equal(t, down, k.down != nil)
		}
		get(1, false)
		time.Sleep(answerTTL - time.Millisecond)
		get(1, false)
		time.Sleep(time.Millisecond)
		get(2, false)

		// A failure is shared for a moment, then Prometheus is asked again.
		time.Sleep(time.Minute)
		a.set(0, errors.New("connection refused"))
		get(2, true)
		get(2, true)
		require.EqualValues(t, 3, a.asked.Load())
		time.Sleep(answerRetry)
		get(2, true)
		require.EqualValues(t, 4, a.asked.Load())
		a.set(0, nil)
		get(2, true)
		time.Sleep(answerRetry)
		get(5, false)

		// A refused request is an error, not the last known state.
		time.Sleep(answerTTL)
		a.set(0, &prom.Error{Op: "ask", Status: http.StatusBadRequest})
		_, err := ask(t.Context(), l, q, a.fetch)
		require.ErrorContains(t, err, "400")

		// A server that hangs: one request, and no caller waits for long.
		a.set(time.Hour, nil)
		start, before := time.Now(), a.asked.Load()
		get(5, true)
		require.Equal(t, answerPatience, time.Since(start))
		for range 100 {
			get(5, true)
		}
		require.Equal(t, answerPatience, time.Since(start))
		require.Equal(t, before+1, a.asked.Load())
	})
}

func TestLastKnown_CancelsRequestThatNoCallerWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLastKnown(1000, nil)
		defer l.close()
		a := &answers{delay: 20 * time.Second}
		q := question{api: "rules"}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := ask(ctx, l, q, a.fetch)
			require.ErrorIs(t, err, context.Canceled)
		})
		wg.Go(func() {
			k, err := ask(t.Context(), l, q, a.fetch)
			require.NoError(t, err, "another caller has left")
			require.EqualValues(t, 1, k.Data)
		})
		synctest.Wait()
		cancel()
		wg.Wait()

		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := ask(ctx, l, question{api: "targets"}, a.fetch)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		synctest.Wait()
		l.mu.Lock()
		defer l.mu.Unlock()
		require.Empty(t, l.flights)
	})
}

// A caller that comes while a request is being cancelled does not get its error.
func TestLastKnown_AsksAgainWhileRequestIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLastKnown(1000, nil)
		defer l.close()
		q := question{api: "rules"}
		var asked atomic.Int64
		fetch := func(ctx context.Context) (prom.Answer[int64], error) {
			if asked.Add(1) > 1 {
				return prom.Answer[int64]{Data: 2}, nil
			}
			<-ctx.Done()
			time.Sleep(time.Second) // the connection is closed
			return prom.Answer[int64]{}, ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := ask(ctx, l, q, fetch)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		for range 2 {
			k, err := ask(t.Context(), l, q, fetch)
			require.NoError(t, err)
			require.EqualValues(t, 2, k.Data)
			time.Sleep(2 * time.Second)
			synctest.Wait()
		}
		require.EqualValues(t, 2, asked.Load(), "the answer is kept")
	})
}

func TestLastKnown_BoundsMemory(t *testing.T) {
	l := newLastKnown(1000, nil)
	defer l.close()
	a := &answers{size: 100}
	ask := func(name string) {
		_, err := ask(t.Context(), l, question{api: "exemplars", subject: name}, a.fetch)
		require.NoError(t, err)
	}
	ask("often")
	for i := range 500 {
		ask(fmt.Sprint(i))
		ask("often")
	}
	require.Len(t, l.kept, 10)
	require.EqualValues(t, 1000, l.bytes)
	require.Contains(t, l.kept, question{api: "exemplars", subject: "often"})
	a.size = 1001
	ask("too large")
	require.NotContains(t, l.kept, question{api: "exemplars", subject: "too large"})
	a.size = 1
	for i := range 500 {
		ask("small " + strings.Repeat("x", i))
	}
	require.Len(t, l.kept, maxAnswers)
}

// The state is known before a querier has asked for it.
func TestLastKnown_IsRefreshed(t *testing.T) {
	var mu sync.Mutex
	asked := map[string]int{}
	s := promtest.New(t, promtest.Options{ExternalLabels: one("cluster", "eu"), Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			asked[r.URL.Path]++
			mu.Unlock()
			next.ServeHTTP(w, r)
		})
	}})
	st := newStore(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); st.refresh(ctx, time.Hour) }()
	require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return asked["/api/v1/metadata"] == 1 }, 10*time.Second, time.Millisecond)
	cancel()
	<-done
	for _, path := range []string{"/api/v1/rules", "/api/v1/targets", "/api/v1/status/tsdb"} {
		require.Equal(t, 1, asked[path], path)
	}
}
