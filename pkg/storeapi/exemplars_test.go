package storeapi_test

import (
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func traces(ids ...string) (out []exemplar.Exemplar) {
	for i, id := range ids {
		out = append(out, exemplar.Exemplar{Labels: labels.FromStrings("id", id), Value: float64(len(id)), Ts: int64(10 - i), HasTs: true})
	}
	return out
}

func TestMergeExemplars_JoinsReplicas(t *testing.T) {
	nan := exemplar.Exemplar{Value: math.NaN(), Ts: 3}
	one := exemplar.Exemplar{Value: 1, Ts: 3}
	got := storeapi.MergeExemplars([]storeapi.ExemplarSeries{
		{Labels: labels.FromStrings("a", "2", "replica", "x"), Exemplars: traces("p", "q")},
		{Labels: labels.FromStrings("a", "3", "replica", "x")},
		{Labels: labels.FromStrings("a", "1", "replica", "x"), Exemplars: []exemplar.Exemplar{nan, one, nan}},
		{Labels: labels.FromStrings("a", "2", "replica", "y"), Exemplars: traces("p", "r")},
	}, []string{"replica"})
	require.Len(t, got, 2)
	require.Equal(t, labels.FromStrings("a", "1"), got[0].Labels)
	require.Len(t, got[0].Exemplars, 2)
	require.Equal(t, labels.FromStrings("a", "2"), got[1].Labels)
	want := traces("p", "q")
	require.Equal(t, []exemplar.Exemplar{want[1], traces("p", "r")[1], want[0]}, got[1].Exemplars)
}

func TestExemplars_ExternalLabelsOverride(t *testing.T) {
	got := storeapi.ExternalExemplars(labels.FromStrings("cluster", "eu"), []exemplar.QueryResult{
		{SeriesLabels: labels.FromStrings("a", "1", "cluster", "own"), Exemplars: traces("p")},
		{SeriesLabels: labels.FromStrings("a", "1"), Exemplars: traces("p", "q")},
	})
	require.Len(t, got, 1)
	require.Equal(t, labels.FromStrings("a", "1", "cluster", "eu"), got[0].Labels)
	require.Len(t, got[0].Exemplars, 2)
}

func TestPruneSelectors_AppliesExternalLabels(t *testing.T) {
	is := func(name, value string) *labels.Matcher {
		return labels.MustNewMatcher(labels.MatchEqual, name, value)
	}
	eu := labels.FromStrings("cluster", "eu")
	got := storeapi.PruneSelectors(eu, [][]*labels.Matcher{
		{is("cluster", "eu"), is("a", "1")}, {is("cluster", "us")}, {is("cluster", "eu")},
	})
	require.Len(t, got, 2)
	require.Equal(t, `a="1"`, got[0][0].String())
	require.Len(t, got[0], 1)
	require.Empty(t, got[1], "everything")
	require.True(t, storeapi.AnySelects(got, labels.EmptyLabels()))
	require.False(t, storeapi.AnySelects(got[:1], labels.FromStrings("a", "2")))
	require.False(t, storeapi.AnySelects(nil, labels.EmptyLabels()))
}
