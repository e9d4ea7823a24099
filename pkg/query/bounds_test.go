package query

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// named gives a fake the name by which warnings call it.
type named struct {
	*storetest.Fake
	name string
}

func (n named) Name() string { return n.name }

// localQuerier is a querier over stores of its own process.
func localQuerier(t *testing.T, stores []storeapi.Store, args ...string) *process {
	t.Helper()
	cfg, err := parseConfig(args...)
	require.NoError(t, err)
	reg := prometheus.NewRegistry()
	q, err := New(cfg, Deps{Registerer: reg, Gatherer: reg, LocalStores: stores})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	mux := http.NewServeMux()
	q.RegisterHTTP(mux)
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		srv.Close()
		cancel()
		require.NoError(t, <-done)
	})
	require.Eventually(t, func() bool { return q.Ready() == nil }, time.Minute, 10*time.Millisecond)
	return &process{t: t, q: q, url: srv.URL}
}

func fakeStore(t *testing.T, name string, n, samples int) named {
	var data storetest.Data
	for i := range n {
		data.Series = append(data.Series, storetest.Series{
			Labels:  labels.FromStrings("__name__", "m", "i", fmt.Sprint(i), "store", name),
			Samples: storetest.Floats(0, 1000, samples),
		})
	}
	return named{storetest.NewFake(t, data), name}
}

func TestLimits_OfWhatIsReadAreNamedWithTheStore(t *testing.T) {
	store := fakeStore(t, "store-a:1", 20, 500)
	for _, c := range []struct {
		flag string
		code int
	}{
		{"--query.max-samples=5000", 422},
		{"--query.max-fetched-series=10", 422},
		{"--query.max-fetched-chunks=100", 422},
		{"--query.max-fetched-bytes=1KB", 422},
		{"--query.max-memory=100KB", 422},
	} {
		q := localQuerier(t, []storeapi.Store{store}, c.flag)
		name, _, _ := strings.Cut(c.flag, "=")
		a := q.get("/api/v1/query", "query", "count_over_time(m[10m])", "time", "499")
		require.Equal(t, c.code, a.code, a.Error)
		require.Contains(t, a.Error, name)
		if name != "--query.max-memory" && name != "--query.max-samples" { // the evaluator counts samples, too
			require.Contains(t, a.Error, "store-a:1")
		}
		// Other ways to the same data.
		a = q.get("/federate", "match[]", "m")
		require.Contains(t, []int{200, 503}, a.code, "%s: federate reads only what is new", c.flag)
		require.Zero(t, q.q.engine.budget.used, "the memory of failed requests is returned")
	}
	q := localQuerier(t, []storeapi.Store{store}, "--query.max-fetched-series=10")
	a := q.get("/api/v1/series", "match[]", "m")
	require.Equal(t, 422, a.code, a.Error)
	require.Contains(t, a.Error, "--query.max-fetched-series")
	q = localQuerier(t, []storeapi.Store{store}, "--query.max-fetched-bytes=10B")
	for _, path := range []string{"/api/v1/labels", "/api/v1/label/i/values"} {
		a = q.get(path)
		require.Equal(t, 422, a.code, a.Error)
		require.Contains(t, a.Error, "--query.max-fetched-bytes")
	}
}

// Steps are paid for before they are evaluated, results before they are written.
func TestLimits_OfMemoryHoldForStepsAndResults(t *testing.T) {
	q := localQuerier(t, []storeapi.Store{fakeStore(t, "a", 20, 500)}, "--query.max-memory=2MB")
	a := q.get("/api/v1/query", "query", "max_over_time(vector(1)[100000s:1s])")
	require.Equal(t, 422, a.code)
	require.Contains(t, a.Error, "--query.max-memory")
	a = q.get("/api/v1/query_range", "query", "m", "start", "0", "end", "10000", "step", "1")
	require.Equal(t, 422, a.code)
	require.Contains(t, a.Error, "--query.max-memory")
	a = q.get("/api/v1/query", "query", "m", "time", "100")
	require.Equal(t, 200, a.code, a.Error)
	require.Zero(t, q.q.engine.budget.used)
}

func TestLimits_MemoryHeldByOthersIs503(t *testing.T) {
	q := localQuerier(t, []storeapi.Store{fakeStore(t, "a", 1, 10)}, "--query.max-memory=1MB", "--query.timeout=300ms")
	other := q.q.engine.budget.share("", nil)
	defer other.close()
	require.NoError(t, other.take(t.Context(), 1<<20))
	a := q.get("/api/v1/query", "query", "m", "time", "5")
	require.Equal(t, http.StatusServiceUnavailable, a.code, a.Error)
	require.NotEmpty(t, a.header.Get("Retry-After"))
}

// Queries that wait for a store that hangs do not keep others from being
// evaluated.
func TestSeats_StoresThatHangTakeNone(t *testing.T) {
	hangs := fakeStore(t, "hangs", 1, 10)
	var waiting sync.WaitGroup
	waiting.Add(5)
	hangs.Wrap = func(ctx context.Context, _ *storeapi.Request, _ storeapi.SeriesSet) storeapi.SeriesSet {
		waiting.Done()
		<-ctx.Done()
		return storeapi.ErrSet(ctx.Err())
	}
	q := localQuerier(t, []storeapi.Store{hangs}, "--query.max-concurrent=1", "--query.timeout=1h")
	ctx, cancel := context.WithCancel(t.Context())
	var queries sync.WaitGroup
	for range 5 {
		queries.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, q.url+"/api/v1/query?query=m&time=5", nil)
			if err == nil {
				if resp, err := http.DefaultClient.Do(req); err == nil {
					_ = resp.Body.Close()
				}
			}
		})
	}
	waiting.Wait() // all five are at the store, with one place for all
	a := q.get("/api/v1/query", "query", "1+1")
	require.Equal(t, 200, a.code, a.Error)
	cancel()
	queries.Wait()
}

func TestSeats_QueueTimeoutIs503(t *testing.T) {
	q := localQuerier(t, nil, "--query.max-concurrent=1", "--query.active-query-path="+t.TempDir())
	taken := q.q.engine
	release, err := taken.AcquireQuerySlot(t.Context(), "other")
	require.NoError(t, err)
	defer release()
	a := q.get("/api/v1/query", "query", "1", "timeout", "10ms")
	require.Equal(t, http.StatusServiceUnavailable, a.code, a.Error)
	require.Contains(t, a.Error, "--query.max-concurrent")
	require.NotEmpty(t, a.header.Get("Retry-After"))
}

// spoil breaks the second chunk of the first series.
func spoil(store named, how func(*storeapi.Chunk)) named {
	store.Wrap = func(_ context.Context, r *storeapi.Request, set storeapi.SeriesSet) storeapi.SeriesSet {
		var all []storeapi.Series
		for set.Next() {
			s := set.At()
			s.Chunks = append([]storeapi.Chunk(nil), s.Chunks...)
			if len(all) == 0 && len(s.Chunks) > 1 {
				how(&s.Chunks[1])
			}
			all = append(all, s)
		}
		return storeapi.NewSliceSet(all)
	}
	return store
}

func TestCorruptChunk_CostsOnlyItself(t *testing.T) {
	for name, how := range map[string]func(*storeapi.Chunk){
		"cut": func(c *storeapi.Chunk) { c.Raw.Bytes = c.Raw.Bytes[:9] },
		"histogram": func(c *storeapi.Chunk) {
			c.Raw = storeapi.Data{Encoding: chunkenc.EncHistogram, Bytes: c.Raw.Bytes[:5]}
		},
		"empty":   func(c *storeapi.Chunk) { c.Raw.Bytes = []byte{} },
		"unknown": func(c *storeapi.Chunk) { c.Raw.Encoding = 200 },
	} {
		t.Run(name, func(t *testing.T) {
			bad := spoil(fakeStore(t, "bad-store:1", 2, 21), how)
			q := localQuerier(t, []storeapi.Store{bad, fakeStore(t, "good-store:1", 2, 21)})
			const says = `store bad-store:1: left out a chunk of series {__name__="m", i="0", store="bad-store:1"}`
			got, a := q.vector("count_over_time(m[1m])", "time", "20")
			require.Equal(t, 200, a.code, a.Error)
			// Chunks have seven samples.
			require.Equal(t, `{i="0", store="bad-store:1"}=14 {i="0", store="good-store:1"}=21 {i="1", store="bad-store:1"}=21 {i="1", store="good-store:1"}=21`, got)
			require.Len(t, a.Warnings, 1)
			require.Contains(t, a.Warnings[0], says)
			require.Equal(t, "bad-store:1", a.header.Get("X-Hindsight-Missing"))
			require.Equal(t, "no-store", a.header.Get("Cache-Control"))
			_, a = q.vector("count_over_time(m[1m])", "time", "20", "partial_response", "false")
			require.Equal(t, 422, a.code)
			require.Contains(t, a.Error, says)
		})
	}
}

// Neither JSON nor protobuf can carry labels that are not UTF-8.
func TestInvalidUTF8_SeriesAreLeftOut(t *testing.T) {
	data := storetest.Data{Series: []storetest.Series{
		{Labels: labels.FromStrings("__name__", "m", "i", "good"), Samples: storetest.Floats(0, 1000, 5)},
		{Labels: labels.FromStrings("__name__", "m", "i", "bad\xff"), Samples: storetest.Floats(0, 1000, 5)},
		{Labels: labels.FromStrings("__name__", "m", "bad\xfe", "x"), Samples: storetest.Floats(0, 1000, 5)},
	}}
	q := localQuerier(t, []storeapi.Store{named{storetest.NewFake(t, data), "odd:1"}})
	for _, call := range [][]string{
		{"/api/v1/query", "query", "m", "time", "4"}, {"/api/v1/query", "query", "m[1m]", "time", "4"},
		{"/api/v1/query_range", "query", "m", "start", "0", "end", "4", "step", "1"},
		{"/api/v1/series", "match[]", "m"}, {"/api/v1/labels"}, {"/api/v1/label/i/values"},
	} {
		a := q.get(call[0], call[1:]...)
		require.Equal(t, 200, a.code, "%v: %s", call, a.Error)
		require.True(t, json.Valid(a.Data))
		require.NotContains(t, string(a.Data), "bad")
		require.Len(t, a.Warnings, 1, "%v", call)
		require.Contains(t, a.Warnings[0], "odd:1")
		require.Contains(t, a.Warnings[0], "not valid UTF-8")
		a = q.get(call[0], append(call[1:], "partial_response", "false")...)
		require.NotEqual(t, 200, a.code, "%v", call)
		require.Contains(t, a.Error, "odd:1")
	}
	a := q.get("/federate", "match[]", "m", "partial_response", "true")
	require.Equal(t, 200, a.code)
}
