package storetest

import (
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func labelData() Data {
	return Data{External: labels.FromStrings("region", "eu", "replica", "r1"), Series: []Series{
		{Labels: labels.FromStrings("__name__", "up", "job", "a"), Samples: Floats(base, 1000, 10)},
		{Labels: labels.FromStrings("__name__", "up", "job", "b", "pod", "p"), Samples: Floats(base, 1000, 10)},
		{Labels: labels.FromStrings("__name__", "down", "host", "h", "region", "own"), Samples: Floats(base, 1000, 10)},
	}}
}

func testLabelNames(t *testing.T, newStore NewStore) {
	s := newStore(t, labelData())
	for _, c := range []struct {
		ms      []*labels.Matcher
		without []string
		limit   int
		want    []string
	}{
		{want: []string{"__name__", "host", "job", "pod", "region", "replica"}},
		{limit: 2, want: []string{"__name__", "host"}},
		{without: []string{"replica", "pod"}, want: []string{"__name__", "host", "job", "region"}},
		{ms: []*labels.Matcher{eq("job", "a")}, want: []string{"__name__", "job", "region", "replica"}},
		{ms: []*labels.Matcher{eq("region", "eu"), eq("job", "a")}, want: []string{"__name__", "job", "region", "replica"}},
		{ms: []*labels.Matcher{eq("region", "eu")}, want: []string{"__name__", "host", "job", "pod", "region", "replica"}},
		{ms: []*labels.Matcher{eq("region", "own")}},
		{ms: []*labels.Matcher{eq("job", "none")}},
	} {
		r := &storeapi.Request{MinTime: base, MaxTime: base + 100_000, Matchers: c.ms, WithoutReplicaLabels: c.without, Limit: c.limit, Partial: storeapi.PartialAbort}
		names, ws, err := s.LabelNames(t.Context(), r)
		require.NoError(t, err)
		require.Empty(t, ws)
		require.Equal(t, nonNil(c.want), nonNil(names), "%v without %v", c.ms, c.without)
	}
}

// testLabelValues checks values with matchers, limits and replica labels, of stored
// and of external labels, and that an empty name is invalid.
func testLabelValues(t *testing.T, newStore NewStore) {
	s := newStore(t, labelData())
	for _, c := range []struct {
		name    string
		ms      []*labels.Matcher
		without []string
		limit   int
		want    []string
	}{
		{name: "job", want: []string{"a", "b"}},
		{name: "job", limit: 1, want: []string{"a"}},
		{name: "job", ms: []*labels.Matcher{ne("pod", "")}, want: []string{"b"}},
		{name: "job", ms: []*labels.Matcher{eq("region", "us")}},
		{name: "absent"},
		{name: "region", want: []string{"eu"}},
		{name: "region", ms: []*labels.Matcher{eq("replica", "r1")}, want: []string{"eu"}},
		{name: "region", ms: []*labels.Matcher{eq("job", "a")}, want: []string{"eu"}},
		{name: "region", ms: []*labels.Matcher{eq("job", "none")}},
		{name: "region", ms: []*labels.Matcher{eq("region", "own")}},
		{name: "replica", without: []string{"replica"}},
		{name: "__name__", without: []string{"replica"}, want: []string{"down", "up"}},
	} {
		r := &storeapi.Request{MinTime: base, MaxTime: base + 100_000, Matchers: c.ms, WithoutReplicaLabels: c.without, Limit: c.limit, Partial: storeapi.PartialAbort}
		values, ws, err := s.LabelValues(t.Context(), c.name, r)
		require.NoError(t, err)
		require.Empty(t, ws)
		require.Equal(t, nonNil(c.want), nonNil(values), "%s with %v", c.name, c.ms)
	}
	_, _, err := s.LabelValues(t.Context(), "", &storeapi.Request{MinTime: base, MaxTime: base})
	require.ErrorIs(t, err, storeapi.ErrInvalid)
}

func nonNil(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// testInfo checks that what a store announces covers what it has: others leave
// it out by that.
func testInfo(t *testing.T, newStore NewStore) {
	data := labelData()
	info := newStore(t, data).Info()
	require.NotEmpty(t, info.Component)
	require.LessOrEqual(t, info.MinTime, base)
	require.GreaterOrEqual(t, info.MaxTime, base+9000)
	for _, ls := range info.LabelSets {
		require.Equal(t, data.External.String(), ls.String())
	}
	for _, x := range info.TSDBs {
		require.LessOrEqual(t, x.MinTime, x.MaxTime)
		require.LessOrEqual(t, x.MaxTime, int64(math.MaxInt64))
	}
}
