package query

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

func TestTenantLimits_Inherit(t *testing.T) {
	l := newTenantLimits(fetchLimits{Samples: 1000, Series: 10, Bytes: 100})
	f, err := parseLimitsFile([]byte(`
query:
  default: {max_concurrent: 5, max_fetched_series: 7}
  tenants:
    a: {max_concurrent: 2, max_memory: 1MiB, max_samples: 2000}
    b: {max_fetched_series: 3, max_samples: 0}
`))
	require.NoError(t, err)
	l.set(f)
	require.Equal(t, 2, l.concurrent("a"))
	require.Equal(t, 5, l.concurrent("b"))
	require.Equal(t, 5, l.concurrent("other"))
	require.Equal(t, int64(1<<20), l.memory("a"))
	require.Zero(t, l.memory("b"))
	a, b, both := l.fetch("a"), l.fetch("b"), l.fetch("a|b")
	require.Equal(t, []int64{2000, 7, 100}, []int64{a.Samples, a.Series, a.Bytes})
	require.Equal(t, []int64{0, 3, 100}, []int64{b.Samples, b.Series, b.Bytes})
	require.Equal(t, []int64{2000, 3, 100}, []int64{both.Samples, both.Series, both.Bytes}, "the smallest of all")
	require.Equal(t, 2, l.concurrent("a|b"))
	require.Equal(t, "--query.max-fetched-bytes", a.name("max_fetched_bytes", "--query.max-fetched-bytes", "a"))
	require.Contains(t, both.name("max_fetched_series", "", "a|b"), "max_fetched_series")
	for _, bad := range []string{
		"query: {tenants: {a: {max_memory: x}}}", "query: {default: {max_samples: -1}}", "query: {tenants: {../a: {}}}", "query: {unknown: 1}",
		"query: {tenants: {a: {max_memory: -1MiB}}}",
	} {
		_, err := parseLimitsFile([]byte(bad))
		require.Error(t, err, bad)
	}
}

// The file is read again on reload; an invalid version changes nothing.
func TestTenantLimits_AreReloaded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limits.yaml")
	write := func(s string) { require.NoError(t, os.WriteFile(path, []byte(s), 0o600)) }
	write("query: {tenants: {a: {max_fetched_series: 3}}}")
	q := localQuerier(t, []storeapi.Store{fakeStore(t, "s", 5, 10)}, "--query.limits-config-file="+path)
	ask := func(id string) (int, string) {
		return q.as(tenant.OrgHeader, id, "/api/v1/query", "query", "m", "time", "5")
	}
	for _, id := range []string{"a", "a|b"} {
		code, body := ask(id)
		require.Equal(t, 422, code, body)
		require.Contains(t, body, `max_fetched_series of tenant \"`+id+`\" in --query.limits-config allows 3`)
	}
	code, body := ask("b")
	require.Equal(t, 200, code, body)
	write("query: {tenants: {a: {max_fetched_series: 30}, b: {max_memory: 1KiB}}}")
	require.NoError(t, q.q.Reload(t.Context()))
	code, body = ask("a")
	require.Equal(t, 200, code, body)
	code, body = ask("b")
	require.Equal(t, 422, code, body)
	require.Contains(t, body, "max_memory of tenant")
	write("query: [")
	require.ErrorContains(t, q.q.Reload(t.Context()), path)
	code, _ = ask("b")
	require.Equal(t, 422, code)
}
