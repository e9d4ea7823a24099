package e2e

import (
	"fmt"
	"maps"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// One query over twelve hours crosses the bucket (old blocks that the sidecar
// shipped), the sidecar (which only serves the last hours) and receive (the
// edge). The answers equal those of the source Prometheus servers, sample by
// sample.
func TestOneQueryAcrossBucketSidecarAndReceive(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Endpoints = []string{"sidecar-eu-a", "receive-1", "receive-2", "receive-3", "store"}
	m := []metric{{name: "crossing_gauge"}, {name: "crossing_total", counter: true}}
	border := time.Now().UnixMilli()/twoHours*twoHours - twoHours // between blocks and head
	for at := border - 10*hour; at < border; at += twoHours {
		writeBlock(t, s.Path("prometheus-eu-a"), at, at+twoHours, 15_000, 0, m)
	}
	require.Len(t, blockDirs(t, s.Path("prometheus-eu-a")), 5)

	for _, name := range []string{"prometheus-eu-a", "prometheus-edge"} {
		s.Extra[name] = []string{"--web.enable-remote-write-receiver"}
	}
	recent := time.UnixMilli(border).UTC().Format(time.RFC3339)
	s.Extra["sidecar-eu-a"] = []string{"--min-time=" + recent}
	s.Extra["store"] = []string{"--sync-block-duration=2s"}
	require.NoError(t, s.Start("node", "s3", "prometheus-eu-a", "sidecar-eu-a",
		"receive-1", "receive-2", "receive-3", "prometheus-edge", "store", "query"))
	// A Prometheus forwards only what is newer than its own start, so the
	// samples reach eight minutes into the future, which all sides allow.
	now := time.Now().UnixMilli()
	last := now + 8*60*1000
	fill(t, s.URL("prometheus-eu-a"), m, border, last)
	fill(t, s.URL("prometheus-edge"), m, now, last)

	global := harness.API{Base: s.URL("query")}
	eventually(t, 2*time.Minute, func() error {
		return expect(global, fmt.Sprintf(`count(last_over_time(crossing_gauge{cluster="eu"}[5m] @ %d))`, (border-9*hour)/1000), "3")
	})
	eventually(t, time.Minute, func() error {
		return expect(global, fmt.Sprintf(`count(last_over_time({__name__=~"crossing_.+", cluster="edge"}[30s] @ %d))`, last/1000), "6")
	})

	start, end := time.UnixMilli(border-10*hour), time.UnixMilli(last)
	queries := []string{
		`crossing_gauge`, `crossing_total`, `sum by (cluster) (rate(crossing_total[5m]))`,
		`max_over_time(crossing_gauge[17m])`, `count_over_time(crossing_gauge[10m])`,
	}
	for _, q := range queries {
		got, err := global.Range(q, start, end, time.Minute)
		require.NoError(t, err)
		require.Empty(t, got.Warnings)
		require.NotEmpty(t, got.Series)
		want := sources(t, s, func(a harness.API) (harness.Answer, error) { return a.Range(q, start, end, time.Minute) })
		requireSame(t, want, got, q)
	}
	for _, q := range []string{`crossing_gauge[13h]`, `crossing_total[13h]`} {
		got, err := global.Instant(q, end)
		require.NoError(t, err)
		want := sources(t, s, func(a harness.API) (harness.Answer, error) { return a.Instant(q, end) })
		requireSame(t, want, got, q)
	}
}

// fill writes samples of every 15 s into a Prometheus.
func fill(t *testing.T, base string, ms []metric, mint, maxt int64) {
	t.Helper()
	var batch []prompb.TimeSeries
	for _, m := range ms {
		for i := range 3 {
			var samples []prompb.Sample
			for at := mint; at <= maxt; at += 15_000 {
				samples = append(samples, prompb.Sample{Timestamp: at, Value: m.value(i, at)})
			}
			batch = append(batch, harness.TimeSeries(samples, "__name__", m.name, "series", strconv.Itoa(i)))
		}
	}
	_, err := harness.Writer{URL: base + "/api/v1/write"}.Write(batch)
	require.NoError(t, err)
}

// sources queries the two Prometheus servers and gives their series the external
// labels without the replica label.
func sources(t *testing.T, s *harness.Site, ask func(harness.API) (harness.Answer, error)) map[string]harness.Series {
	t.Helper()
	out := map[string]harness.Series{}
	for name, cluster := range map[string]string{"prometheus-eu-a": "eu", "prometheus-edge": "edge"} {
		ans, err := ask(harness.API{Base: s.URL(name)})
		require.NoError(t, err)
		require.NotEmpty(t, ans.Series, name)
		for _, series := range ans.Series {
			series.Labels = maps.Clone(series.Labels)
			if series.Labels == nil {
				series.Labels = map[string]string{}
			}
			series.Labels["cluster"] = cluster
			out[series.Key()] = series
		}
	}
	return out
}

func requireSame(t *testing.T, want map[string]harness.Series, got harness.Answer, query string) {
	t.Helper()
	require.Len(t, got.Series, len(want), query)
	for _, series := range got.Series {
		// receive adds the tenant to what it stores.
		delete(series.Labels, "tenant_id")
		w, ok := want[series.Key()]
		require.True(t, ok, "%s: the sources have no series %s", query, series.Key())
		require.Equal(t, len(w.Samples), len(series.Samples), "%s: number of samples of %s", query, series.Key())
		for i := range w.Samples {
			require.Equal(t, w.Samples[i], series.Samples[i], "%s: sample %d of %s", query, i, series.Key())
		}
	}
}
