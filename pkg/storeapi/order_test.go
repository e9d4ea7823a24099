package storeapi

import (
	"math/rand"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

// TestOrder_EqualsCompareOfStrippedSets computes the order a second way: it builds the
// label sets without the labels.
func TestOrder_EqualsCompareOfStrippedSets(t *testing.T) {
	rnd := rand.New(rand.NewSource(3))
	sign := func(n int) int { return min(1, max(-1, n)) }
	decided := 0
	for range 400 {
		in, order := randomSets(rnd, 12), randomOrder(rnd)
		for _, a := range in {
			for _, b := range in {
				strip := func(l labels.Labels) labels.Labels { return labels.NewBuilder(l).Del(order.without...).Labels() }
				want := labels.Compare(strip(a.Labels), strip(b.Labels))
				require.Equal(t, strip(a.Labels), order.Key(a.Labels))
				require.Equal(t, sign(want), sign(order.CompareKeys(a.Labels, b.Labels)), "%v %s %s", order, a.Labels, b.Labels)
				if want == 0 {
					want = labels.Compare(a.Labels, b.Labels)
					decided += sign(want * want)
				}
				require.Equal(t, sign(want), sign(order.Compare(a.Labels, b.Labels)), "%v %s %s", order, a.Labels, b.Labels)
			}
		}
	}
	require.Greater(t, decided, 200)
}

func TestOrder_AllocatesNothing(t *testing.T) {
	order := NewOrder([]string{"replica", "receive_replica"})
	a := labels.FromStrings("__name__", "up", "instance", "a", "replica", "a", "zone", "z")
	b := labels.FromStrings("__name__", "up", "instance", "a", "replica", "b", "zone", "z")
	require.Zero(t, testing.AllocsPerRun(100, func() { order.Compare(a, b) }))
}

// BenchmarkOrder compares two replicas of a series with each other, and one series
// with the next.
func BenchmarkOrder(b *testing.B) {
	set := func(instance, replica string) labels.Labels {
		return labels.FromStrings("__name__", "http_request_duration_seconds_bucket", "cluster", "eu-west-1", "code", "200",
			"handler", "/api/v1/query_range", "instance", instance, "job", "kubernetes-pods", "le", "0.25",
			"namespace", "monitoring", "prometheus_replica", replica, "region", "europe")
	}
	order := NewOrder([]string{"prometheus_replica", "receive_replica"})
	x, y, z := set("10.0.0.1:9090", "a"), set("10.0.0.1:9090", "b"), set("10.0.0.2:9090", "a")
	b.Run("replicas", func(b *testing.B) {
		for b.Loop() {
			order.Compare(x, y)
		}
	})
	b.Run("series", func(b *testing.B) {
		for b.Loop() {
			order.Compare(x, z)
		}
	})
	b.Run("plain", func(b *testing.B) {
		for b.Loop() {
			labels.Compare(x, z)
		}
	})
}
