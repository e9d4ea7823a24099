package multitsdb

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func TestTSDBStatus(t *testing.T) {
	d := openDB(t, t.TempDir(), nil)
	now := time.Now().UnixMilli()
	require.NoError(t, write(t, d, "a", float("x", now, 1), float("y", now+5, 1)))
	require.NoError(t, write(t, d, "b", float("x", now, 1)))
	ask := func(ms ...*labels.Matcher) map[string]storeapi.TSDBStats {
		got, ws, err := d.TSDBStatus(t.Context(), &storeapi.TSDBStatusRequest{Limit: 1, Matchers: ms})
		require.NoError(t, err)
		require.Empty(t, ws)
		return got
	}
	all := ask()
	require.Len(t, all, 2)
	a := all["a"]
	require.Equal(t, storeapi.TSDBStats{
		Series: 2, LabelPairs: 3, Chunks: 2, MinTime: now, MaxTime: now + 5,
		SeriesByMetric: a.SeriesByMetric, ValuesByLabel: []storeapi.NamedCount{{Name: "__name__", Value: 2}},
		MemoryByLabel: a.MemoryByLabel, SeriesByPair: []storeapi.NamedCount{{Name: "job=j", Value: 2}},
	}, a)
	require.Len(t, a.SeriesByMetric, 1, "the limit")
	is := func(name, value string) *labels.Matcher { return labels.MustNewMatcher(labels.MatchEqual, name, value) }
	require.Contains(t, ask(is("tenant_id", "b"), is("replica", "r")), "b")
	require.Len(t, ask(is("tenant_id", "b")), 1)
	require.Empty(t, ask(is("cluster", "eu")))
	require.Len(t, ask(is("cluster", "")), 2)
}

func TestTSDBStatus_NamesTenantThatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	d := openDB(t, dir, nil)
	for _, id := range []string{"a", "b"} {
		require.NoError(t, write(t, d, id, float("x", time.Now().UnixMilli(), 1)))
	}
	require.NoError(t, d.Close(t.Context()))
	mend := breakTenant(t, dir, "b")
	away := atomic.Bool{}
	d, _ = shipped(t, dir, &away, nil)
	d.longPause()
	ask := func(tenant string) (map[string]storeapi.TSDBStats, storeapi.Warnings) {
		m := labels.MustNewMatcher(labels.MatchRegexp, "tenant_id", tenant)
		got, ws, err := d.TSDBStatus(t.Context(), &storeapi.TSDBStatusRequest{Limit: 1, Matchers: []*labels.Matcher{m}})
		require.NoError(t, err)
		return got, ws
	}
	got, ws := ask(".*")
	require.Contains(t, got, "a")
	require.NotContains(t, got, "b")
	require.Len(t, ws, 1)
	require.Contains(t, ws[0].Text, "tenant b")
	_, ws = ask("a")
	require.Empty(t, ws)
	mend()
}
