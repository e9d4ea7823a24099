package tsdbstore

import (
	"fmt"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

const benchSeries = 20_000

func benchDB(b *testing.B) *tsdb.DB {
	opts := tsdb.DefaultOptions()
	opts.NoLockfile = true
	db, err := tsdb.Open(b.TempDir(), nil, nil, opts, nil)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	refs := make([]storage.SeriesRef, benchSeries)
	for i := range int64(60) {
		app := db.Appender(b.Context())
		for j := range refs {
			var l labels.Labels
			if refs[j] == 0 {
				l = labels.FromStrings("__name__", "http_request_duration_seconds_bucket", "code", "200", "container", "api",
					"handler", "/api/v1/query_range", "instance", fmt.Sprintf("10.0.%03d.%03d:9090", j/256, j%256),
					"job", "kubernetes-pods", "le", "0.25", "method", "GET", "namespace", "monitoring",
					"pod", fmt.Sprintf("api-server-7d9c5b6f4-%05d", j), "replica", fmt.Sprint("r", j%2), "service", "api")
			}
			refs[j], err = app.Append(refs[j], l, 15_000*i, float64(i*i%97))
			require.NoError(b, err)
		}
		require.NoError(b, app.Commit())
	}
	return db
}

// BenchmarkSelect reads every series of a head with one chunk. The limit is the
// TSDB's own querier; the others add external labels, and remove a replica label
// that is external or the series' own.
func BenchmarkSelect(b *testing.B) {
	db := benchDB(b)
	m := labels.MustNewMatcher(labels.MatchEqual, "__name__", "http_request_duration_seconds_bucket")
	perSeries := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchSeries, "ns/series")
	}
	b.Run("limit", func(b *testing.B) {
		for b.Loop() {
			q, err := db.ChunkQuerier(0, math.MaxInt64)
			require.NoError(b, err)
			set := q.Select(b.Context(), true, &storage.SelectHints{End: math.MaxInt64, DisableTrimming: true}, m)
			n := 0
			var it chunks.Iterator
			for set.Next() {
				for it = set.At().Iterator(it); it.Next(); {
					n++
				}
			}
			require.GreaterOrEqual(b, n, benchSeries)
			require.NoError(b, q.Close())
		}
		perSeries(b)
	})
	ext := labels.FromStrings("cluster", "eu", "prometheus_replica", "a", "tenant_id", "team")
	for name, c := range map[string]struct {
		ext  labels.Labels
		drop []string
	}{
		"plain":            {},
		"external":         {ext: ext},
		"external replica": {ext: ext, drop: []string{"prometheus_replica"}},
		"own replica":      {drop: []string{"replica"}},
	} {
		b.Run(name, func(b *testing.B) {
			s := New(db, Config{External: func() labels.Labels { return c.ext }})
			for b.Loop() {
				set := s.Select(b.Context(), &storeapi.Request{MaxTime: math.MaxInt64, WithoutReplicaLabels: c.drop, Matchers: []*labels.Matcher{m}})
				n := 0
				for set.Next() {
					n++
				}
				require.NoError(b, set.Err())
				require.Equal(b, benchSeries, n)
				require.NoError(b, set.Close())
			}
			perSeries(b)
		})
	}
}
