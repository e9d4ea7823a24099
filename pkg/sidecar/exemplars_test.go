package sidecar

import (
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/sidecar/prom/promtest"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func TestExemplars_AddsExternalLabels(t *testing.T) {
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu", "replica", "1")})
	const t0 = 1_700_000_000_123
	add := func(ts int64, value float64, id string, lset ...string) {
		s.Write(t, func(app storage.Appender) error {
			ref, err := app.Append(0, labels.FromStrings(lset...), ts, 1)
			if err != nil {
				return err
			}
			_, err = app.AppendExemplar(ref, labels.FromStrings(lset...), exemplar.Exemplar{
				Labels: labels.FromStrings("trace_id", id), Value: value, Ts: ts, HasTs: true,
			})
			return err
		})
	}
	add(t0, 0.25, "1", "__name__", "m", "job", "a")
	add(t0+1, math.Inf(1), "2", "__name__", "m", "job", "a")
	add(t0, 1e300, "3", "__name__", "m", "job", "b", "cluster", "own")
	add(t0, math.NaN(), "4", "__name__", "n")
	st := newStore(t, s)

	at := func(ts int64, value float64, id string) exemplar.Exemplar {
		return exemplar.Exemplar{Labels: one("trace_id", id), Value: value, Ts: ts, HasTs: true}
	}
	a := storeapi.ExemplarSeries{
		Labels:    labels.FromStrings("__name__", "m", "cluster", "eu", "job", "a", "replica", "1"),
		Exemplars: []exemplar.Exemplar{at(t0, 0.25, "1"), at(t0+1, math.Inf(1), "2")},
	}
	b := storeapi.ExemplarSeries{
		Labels:    labels.FromStrings("__name__", "m", "cluster", "eu", "job", "b", "replica", "1"),
		Exemplars: []exemplar.Exemplar{at(t0, 1e300, "3")},
	}
	ask := func(mint, maxt int64, selectors ...[]*labels.Matcher) []storeapi.ExemplarSeries {
		t.Helper()
		got, ws, err := st.Exemplars(t.Context(), &storeapi.ExemplarRequest{MinTime: mint, MaxTime: maxt, Selectors: selectors})
		require.NoError(t, err)
		require.Empty(t, ws)
		return got
	}
	type ms = []*labels.Matcher
	require.Equal(t, []storeapi.ExemplarSeries{a, b}, ask(math.MinInt64, math.MaxInt64, ms{eq("__name__", "m"), eq("cluster", "eu")}))
	require.Equal(t, []storeapi.ExemplarSeries{a, b}, ask(t0, t0+1, ms{eq("job", "a")}, ms{eq("job", "b")}))
	got := ask(t0+1, t0+1, ms{eq("cluster", "eu")})
	require.Len(t, got, 1)
	require.Equal(t, a.Exemplars[1:], got[0].Exemplars)
	require.Empty(t, ask(0, math.MaxInt64, ms{eq("cluster", "own")}))
	require.Empty(t, ask(0, math.MaxInt64))
	nan := ask(0, math.MaxInt64, ms{eq("__name__", "n")})
	require.Len(t, nan, 1)
	require.True(t, math.IsNaN(nan[0].Exemplars[0].Value))

	st.minTime = func(time.Time) int64 { return t0 + 1 }
	require.Len(t, ask(0, math.MaxInt64, ms{eq("__name__", "m")}), 1)
	require.Empty(t, ask(0, t0, ms{eq("__name__", "m")}))
}

func TestExemplars_FailsWithPrometheus(t *testing.T) {
	data := "" // what the server answers; none makes it fail
	s := promtest.New(t, promtest.Options{ExternalLabels: one("cluster", "eu"), Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path != "/api/v1/query_exemplars":
				next.ServeHTTP(w, r)
			case data == "":
				http.Error(w, "restarting", http.StatusServiceUnavailable)
			default:
				_, _ = w.Write([]byte(`{"status": "success", "data": ` + data + `}`))
			}
		})
	}})
	st := newStore(t, s)
	for text, want := range map[string]string{
		"":                                     "restarting",
		`[{"exemplars": [{"value": 5}]}]`:      "value of an exemplar",
		`[{"exemplars": [{"value": "five"}]}]`: "value of an exemplar",
		`{}`:                                   "decode",
	} {
		data = text
		_, _, err := st.Exemplars(t.Context(), &storeapi.ExemplarRequest{MaxTime: 5, Selectors: [][]*labels.Matcher{{}}})
		require.ErrorContains(t, err, want)
		require.ErrorIs(t, err, storeapi.ErrUnavailable)
	}
}
