package selfscrape

import (
	"context"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"
)

func TestRun_StoresOwnMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "own_total", Help: "Something of its own."})
	reg.MustRegister(c)
	c.Add(42)
	db, err := tsdb.Open(t.TempDir(), slog.New(slog.DiscardHandler), nil, tsdb.DefaultOptions(), nil)
	require.NoError(t, err)
	defer db.Close()

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Config{Gatherer: reg, Instance: "here:1", Into: db, Logger: slog.New(slog.DiscardHandler)})
	}()
	value := func(name string) (string, float64) {
		q, err := db.Querier(math.MinInt64, math.MaxInt64)
		require.NoError(t, err)
		defer q.Close()
		set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", name))
		if !set.Next() {
			return "", 0
		}
		it := set.At().Iterator(nil)
		it.Next()
		_, v := it.At()
		return set.At().Labels().String(), v
	}
	require.Eventually(t, func() bool { _, v := value("up"); return v == 1 }, time.Minute, 50*time.Millisecond)
	ls, v := value("own_total")
	require.Equal(t, `{__name__="own_total", instance="here:1", job="hindsight"}`, ls)
	require.Equal(t, 42.0, v)
	cancel()
	require.NoError(t, <-ended)
}
