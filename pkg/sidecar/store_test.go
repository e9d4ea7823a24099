package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/httpclient"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom/promtest"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// newStore returns a store of the server, after its first check.
func newStore(t testing.TB, s *promtest.Server) *promStore {
	t.Helper()
	cfg := httpclient.Default()
	cfg.Transport.MaxIdleConnsPerHost = -1 // idle connections look like leaks
	c, err := prom.New(s.URL(), cfg, "test")
	require.NoError(t, err)
	src := newSource(c, time.Minute, slog.New(slog.DiscardHandler), newMetrics(nil))
	if err := src.check(t.Context()); errors.Is(err, errNoExternalLabels) {
		// Not for production, but the acceptance suite has such data.
		src.known, err = src.identify(t.Context(), labels.EmptyLabels())
		require.NoError(t, err)
	} else {
		require.NoError(t, err)
	}
	answers := newLastKnown(32<<20, nil)
	t.Cleanup(answers.close)
	return &promStore{source: src, metrics: src.metrics, minTime: func(time.Time) int64 { return math.MinInt64 }, answers: answers}
}

func one(name, value string) labels.Labels { return labels.FromStrings(name, value) }

func eq(name, value string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchEqual, name, value)
}

func forever(ms ...*labels.Matcher) *storeapi.Request {
	return &storeapi.Request{MinTime: math.MinInt64, MaxTime: math.MaxInt64, Matchers: ms}
}

// list reads a set to its end: one line per series with the spans of its chunks.
func list(t testing.TB, set storeapi.SeriesSet) []string {
	t.Helper()
	var out []string
	for set.Next() {
		at := set.At()
		line := at.Labels.String()
		for _, c := range at.Chunks {
			line += fmt.Sprintf(" %d-%d", c.MinTime, c.MaxTime)
		}
		out = append(out, line)
	}
	require.NoError(t, set.Err())
	require.NoError(t, set.Close())
	return out
}

func TestSelect_AddsExternalLabels(t *testing.T) {
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu", "replica", "1")})
	s.Append(t, labels.FromStrings("__name__", "up", "job", "a"), 1000, 1000, 1, 1)
	s.Append(t, labels.FromStrings("__name__", "up", "job", "b", "cluster", "own"), 1000, 1000, 1)
	s.Append(t, labels.FromStrings("__name__", "up"), 1000, 1000, 1)
	st := newStore(t, s)

	check := func(r *storeapi.Request, want ...string) {
		t.Helper()
		require.Equal(t, want, list(t, st.Select(t.Context(), r)))
	}
	everything := []string{
		`{__name__="up", cluster="eu", job="a", replica="1"} 1000-2000`,
		`{__name__="up", cluster="eu", job="b", replica="1"} 1000-1000`,
		`{__name__="up", cluster="eu", replica="1"} 1000-1000`,
	}
	check(forever(eq("__name__", "up")), everything...)
	check(forever(eq("__name__", "up"), eq("cluster", "eu")), everything...)
	check(forever(eq("__name__", "up"), eq("cluster", "us")))
	check(forever(eq("__name__", "up"), labels.MustNewMatcher(labels.MatchNotRegexp, "replica", "1|2")))
	check(forever(eq("__name__", "up"), eq("job", "a")), everything[0])

	r := forever(eq("__name__", "up"))
	r.WithoutReplicaLabels = []string{"replica", "job"}
	require.ElementsMatch(t, []string{
		`{__name__="up", cluster="eu"} 1000-2000`, `{__name__="up", cluster="eu"} 1000-1000`, `{__name__="up", cluster="eu"} 1000-1000`,
	}, list(t, st.Select(t.Context(), r)))

	r = forever(eq("__name__", "up"))
	r.Limit = 2
	check(r, everything[:2]...)

	r = forever(eq("__name__", "up"))
	r.MinTime, r.MaxTime = 2000, 2000
	check(r, `{__name__="up", cluster="eu", job="a", replica="1"} 2000-2000`)
	r.MinTime, r.MaxTime = 2001, 1<<40
	check(r)

	r = forever(eq("__name__", "up"))
	r.SkipChunks = true
	check(r,
		`{__name__="up", cluster="eu", job="a", replica="1"}`,
		`{__name__="up", cluster="eu", job="b", replica="1"}`,
		`{__name__="up", cluster="eu", replica="1"}`)
	r.WithoutReplicaLabels = []string{"replica", "job"}
	check(r, `{__name__="up", cluster="eu"}`)

	set := st.Select(t.Context(), forever(eq("cluster", "eu")))
	require.False(t, set.Next())
	require.ErrorIs(t, set.Err(), storeapi.ErrNoMatchers)
	require.NoError(t, set.Close())
}

func TestSelect_StartsAtMinTime(t *testing.T) {
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu")})
	s.Append(t, labels.FromStrings("__name__", "up"), 1000, 1000, 1, 2, 3, 4)
	st := newStore(t, s)
	st.minTime = func(time.Time) int64 { return 3000 }
	require.Equal(t, int64(3000), st.Info().MinTime)
	require.Equal(t, []string{`{__name__="up", cluster="eu"} 3000-4000`}, list(t, st.Select(t.Context(), forever(eq("__name__", "up")))))
	r := forever(eq("__name__", "up"))
	r.MaxTime = 2999
	require.Empty(t, list(t, st.Select(t.Context(), r)))
}

func TestInfo_DescribesPrometheus(t *testing.T) {
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu")})
	s.Append(t, labels.FromStrings("__name__", "up"), 5_500, 1000, 1)
	info := newStore(t, s).Info()
	require.Equal(t, "sidecar", info.Component)
	require.Equal(t, []labels.Labels{labels.FromStrings("cluster", "eu")}, info.LabelSets)
	require.Equal(t, int64(5000), info.MinTime)
	require.Equal(t, int64(math.MaxInt64), info.MaxTime)
	require.True(t, info.SupportsSharding)
	require.True(t, info.SupportsWithoutReplicaLabels)
}

func TestLabels_ReturnsNamesAndValues(t *testing.T) {
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu", "replica", "1")})
	s.Append(t, labels.FromStrings("__name__", "up", "job", "a", "cluster", "own"), 1000, 1000, 1)
	s.Append(t, labels.FromStrings("__name__", "up", "job", "b", "zone", "z"), 1000, 1000, 1)
	st := newStore(t, s)

	names := func(r *storeapi.Request, want ...string) {
		t.Helper()
		got, ws, err := st.LabelNames(t.Context(), r)
		require.NoError(t, err)
		require.Empty(t, ws)
		require.Equal(t, want, got)
	}
	names(forever(), "__name__", "cluster", "job", "replica", "zone")
	names(forever(eq("job", "a")), "__name__", "cluster", "job", "replica")
	names(forever(eq("job", "nothing")), []string(nil)...)
	names(forever(eq("cluster", "us")), []string(nil)...)
	r := forever()
	r.WithoutReplicaLabels = []string{"replica"}
	names(r, "__name__", "cluster", "job", "zone")
	r.Limit = 2
	names(r, "__name__", "cluster")

	values := func(name string, r *storeapi.Request, want ...string) {
		t.Helper()
		got, ws, err := st.LabelValues(t.Context(), name, r)
		require.NoError(t, err)
		require.Empty(t, ws)
		require.ElementsMatch(t, want, got)
	}
	values("job", forever(), "a", "b")
	values("job", forever(eq("zone", "z")), "b")
	values("cluster", forever(), "eu")
	values("cluster", forever(eq("cluster", "eu")), "eu")
	values("cluster", forever(eq("cluster", "us")))
	values("cluster", forever(eq("job", "a")), "eu")
	values("cluster", forever(eq("job", "nothing")))
	r = forever()
	r.WithoutReplicaLabels = []string{"replica", "job"}
	values("replica", r)
	values("job", r)
	r = forever()
	r.Limit = 1
	values("job", r, "a")
	_, _, err := st.LabelValues(t.Context(), "", forever())
	require.ErrorIs(t, err, storeapi.ErrInvalid)
}

func TestStore_IsUnavailableWithoutPrometheus(t *testing.T) {
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu")})
	st := newStore(t, s)
	s.SetDown(true)
	set := st.Select(t.Context(), forever(eq("__name__", "up")))
	require.False(t, set.Next())
	require.ErrorIs(t, set.Err(), storeapi.ErrUnavailable)
	require.NoError(t, set.Close())
	_, _, err := st.LabelNames(t.Context(), forever())
	require.ErrorIs(t, err, storeapi.ErrUnavailable)
	require.Len(t, st.source.checkNow, 1, "a failed request makes the watch look")

	require.Error(t, st.source.check(t.Context()))
	require.ErrorContains(t, st.source.ready(), "503")
	s.SetDown(false)
	require.NoError(t, st.source.check(t.Context()))
	require.NoError(t, st.source.ready())
	require.Empty(t, list(t, st.Select(t.Context(), forever(eq("__name__", "up")))))
}

func TestStore_BadRequestIsInvalid(t *testing.T) {
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu"), Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/api/v1/read" {
				http.Error(w, "no", http.StatusBadRequest)
				return
			}
			next.ServeHTTP(w, r)
		})
	}})
	set := newStore(t, s).Select(t.Context(), forever(eq("__name__", "up")))
	require.False(t, set.Next())
	require.ErrorIs(t, set.Err(), storeapi.ErrInvalid)
}

func TestSelect_EndsWhenCancelled(t *testing.T) {
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu"), MaxBytesInFrame: 10})
	s.Append(t, labels.FromStrings("__name__", "up"), 0, 1000, make([]float64, 5000)...)
	st := newStore(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	set := st.Select(ctx, forever(eq("__name__", "up")))
	require.False(t, set.Next())
	require.ErrorIs(t, set.Err(), context.Canceled)
	require.NoError(t, set.Close())
}

// A label that is new since the last check ends the answer with an error.
func TestSelect_RefusesNewLabel(t *testing.T) {
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu", "replica", "1")})
	s.Append(t, labels.FromStrings("__name__", "up", "zone", "z"), 1000, 1000, 1)
	st := newStore(t, s)
	s.Append(t, labels.FromStrings("__name__", "up", "pod", "x"), 1000, 1000, 1)
	r := forever(eq("__name__", "up"))
	r.WithoutReplicaLabels = []string{"pod"}
	set := st.Select(t.Context(), r)
	for set.Next() {
	}
	require.ErrorIs(t, set.Err(), storeapi.ErrUnavailable)
	require.ErrorIs(t, set.Err(), errNewLabel)
	require.NoError(t, st.source.check(t.Context()))
	require.Len(t, list(t, st.Select(t.Context(), r)), 2)
}

// A metric with a replica label of its own does not hold back other metrics.
func TestSelect_HoldsBackOwnReplicaLabelOnly(t *testing.T) {
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu", "replica", "1")})
	s.Append(t, labels.FromStrings("__name__", "kafka", "part", "1", "replica", "a"), 1000, 1000, 1)
	s.Append(t, labels.FromStrings("__name__", "kafka", "replica", "b"), 1000, 1000, 1)
	s.Append(t, labels.FromStrings("__name__", "up", "zone", "a"), 1000, 1000, 1)
	s.Append(t, labels.FromStrings("__name__", "up", "zone", "b"), 1000, 1000, 1)
	st := newStore(t, s)
	p := func(name string) plan {
		p, ok, err := st.plan(forever(eq("__name__", name)))
		require.NoError(t, err)
		require.True(t, ok)
		return p
	}
	own, err := st.ownLabels(t.Context(), p("up"), []string{"replica"})
	require.NoError(t, err)
	require.False(t, own("replica"))
	own, err = st.ownLabels(t.Context(), p("kafka"), []string{"replica"})
	require.NoError(t, err)
	require.True(t, own("replica"))

	r := forever(eq("__name__", "kafka"))
	r.WithoutReplicaLabels = []string{"replica"}
	require.Equal(t, []string{
		`{__name__="kafka", cluster="eu"} 1000-1000`, `{__name__="kafka", cluster="eu", part="1"} 1000-1000`,
	}, list(t, st.Select(t.Context(), r)))
	r.Matchers = []*labels.Matcher{eq("__name__", "up")}
	require.Len(t, list(t, st.Select(t.Context(), r)), 2)
}

// For random labels of series and server, the answer is the content of the database
// with the labels of the answer, sorted.
func TestSelect_SortsRandomLabels(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "b", "c", "d", "e"}
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("x", "y")})
	st := newStore(t, s)
	for round := range 30 {
		ext := labels.NewBuilder(labels.EmptyLabels())
		for len(ext.Labels().String()) < 3 || rnd.IntN(2) == 0 {
			ext.Set(names[rnd.IntN(len(names))], fmt.Sprint(rnd.IntN(2)))
		}
		s.SetExternalLabels(ext.Labels())
		stored := map[string]labels.Labels{}
		s.Write(t, func(app storage.Appender) error {
			for range 60 {
				b := labels.NewBuilder(labels.FromStrings("__name__", fmt.Sprintf("m%d_%d", round, rnd.IntN(2))))
				for range rnd.IntN(4) {
					b.Set(names[rnd.IntN(len(names))], fmt.Sprint(rnd.IntN(2)))
				}
				stored[b.Labels().String()] = b.Labels()
				if _, err := app.Append(0, b.Labels(), 1000, 1); err != nil {
					return err
				}
			}
			return nil
		})
		require.NoError(t, st.source.check(t.Context()))
		drop := slices.Clone(names[:rnd.IntN(3)])
		outer := newOuterLabels(ext.Labels(), drop)
		var want []labels.Labels
		for _, l := range stored {
			want = append(want, outer.of(l))
		}
		slices.SortFunc(want, labels.Compare)
		want = slices.CompactFunc(want, labels.Equal)

		r := forever(labels.MustNewMatcher(labels.MatchRegexp, "__name__", fmt.Sprintf("m%d_.", round)))
		r.WithoutReplicaLabels = drop
		var got []labels.Labels
		set := st.Select(t.Context(), r)
		for set.Next() {
			require.NotEmpty(t, set.At().Chunks)
			for range set.At().Chunks {
				got = append(got, set.At().Labels)
			}
		}
		require.NoError(t, set.Err())
		require.NoError(t, set.Close())
		require.Empty(t, storetest.WithoutCollisions(set.Warnings()))
		// Merge joins equal label sets and drops identical chunks.
		require.Equal(t, fmt.Sprint(want), fmt.Sprint(slices.CompactFunc(got, labels.Equal)),
			"round %d ext=%s drop=%v", round, ext.Labels(), drop)

		r.SkipChunks = true
		require.Len(t, list(t, st.Select(t.Context(), r)), len(want))
	}
}

func TestSelect_RefusesMoreThanLimits(t *testing.T) {
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu")})
	s.Append(t, labels.FromStrings("__name__", "up", "job", "a"), 1000, 1000, 1)
	s.Append(t, labels.FromStrings("__name__", "up", "job", "b"), 1000, 1000, 1)
	st := newStore(t, s)
	read := func(l storeapi.Bounds) (n int, err error) {
		st.limits = l
		set := st.Select(t.Context(), forever(eq("__name__", "up")))
		defer set.Close()
		for set.Next() {
			n++
		}
		return n, set.Err()
	}
	n, err := read(storeapi.Bounds{Series: 2, Samples: 240})
	require.NoError(t, err)
	require.Equal(t, 2, n)
	_, err = read(storeapi.Bounds{Series: 1})
	require.ErrorIs(t, err, limit.ErrExceeded)
	require.ErrorContains(t, err, "--store.limits.request-series")
	_, err = read(storeapi.Bounds{Samples: 239})
	require.ErrorIs(t, err, limit.ErrExceeded)
}
