package thanosmetrics

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

func TestGatherer_HasTheValuesOfTheSources(t *testing.T) {
	reg := prometheus.NewRegistry()
	counter := func(name string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: "h"}, labels)
		reg.MustRegister(v)
		return v
	}
	counter("hindsight_objstore_operations_total", "operation").WithLabelValues("list").Add(3)
	forwards := counter("hindsight_receive_forwards_total", "result")
	forwards.WithLabelValues("ok").Add(5)
	forwards.WithLabelValues("conflict").Add(1)
	forwards.WithLabelValues("unavailable").Add(2)
	jobs := counter("hindsight_compact_jobs_started_total", "kind", "resolution")
	jobs.WithLabelValues("merge", "0").Add(7)
	jobs.WithLabelValues("downsample", "300000").Add(8)
	reload := prometheus.NewGauge(prometheus.GaugeOpts{Name: "hindsight_config_last_reload_successful", Help: "h"})
	reg.MustRegister(reload)
	require.NoError(t, testutil.GatherAndCompare(Gatherer(reg), strings.NewReader(`
# HELP hindsight_receive_forwards_total h
# TYPE hindsight_receive_forwards_total counter
hindsight_receive_forwards_total{result="conflict"} 1
hindsight_receive_forwards_total{result="ok"} 5
hindsight_receive_forwards_total{result="unavailable"} 2
# HELP thanos_compact_downsample_total h
# TYPE thanos_compact_downsample_total counter
thanos_compact_downsample_total{resolution="0"} 8
# HELP thanos_compact_group_compactions_total h
# TYPE thanos_compact_group_compactions_total counter
thanos_compact_group_compactions_total{resolution="0"} 7
# HELP thanos_objstore_bucket_operations_total h
# TYPE thanos_objstore_bucket_operations_total counter
thanos_objstore_bucket_operations_total{operation="iter"} 3
# HELP thanos_receive_forward_requests_total h
# TYPE thanos_receive_forward_requests_total counter
thanos_receive_forward_requests_total{result="error"} 3
thanos_receive_forward_requests_total{result="success"} 5
`), "hindsight_receive_forwards_total", "thanos_compact_downsample_total", "thanos_compact_group_compactions_total",
		"thanos_objstore_bucket_operations_total", "thanos_receive_forward_requests_total",
		// A reload of another role than receive has no alias.
		"thanos_receive_config_last_reload_successful"))
}

func TestAliases_NameEachMetricOnce(t *testing.T) {
	names := map[string]bool{}
	for _, a := range aliases() {
		require.False(t, names[a.name], a.name)
		names[a.name] = true
		require.True(t, strings.HasPrefix(a.from, "hindsight_"), a.from)
	}
}
