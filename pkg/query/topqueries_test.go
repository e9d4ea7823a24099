package query

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/query/promapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

func (q *process) top(id string, params ...string) promapi.TopQueries {
	q.t.Helper()
	code, body := q.as(tenant.Header, id, "/api/v1/top_queries", params...)
	require.Equal(q.t, 200, code, body)
	var a struct{ Data promapi.TopQueries }
	require.NoError(q.t, json.Unmarshal([]byte(body), &a))
	return a.Data
}

func TestTopQueries_SumsByExpressionAndTenant(t *testing.T) {
	store := fakeStore(t, "team", 3, 10)
	q := localQuerier(t, []storeapi.Store{store}, "--query.enforce-tenancy", "--query.tenant-label-name=store")
	for range 3 {
		code, body := q.as(tenant.Header, "team", "/api/v1/query", "query", "m", "time", "5")
		require.Equal(t, 200, code, body)
	}
	code, body := q.as(tenant.Header, "team", "/api/v1/series", "match[]", "m")
	require.Equal(t, 200, code, body)
	require.Empty(t, q.top("other").Queries, "another tenant sees nothing")
	require.Eventually(t, func() bool { return len(q.top("team|other", "by", "count").Queries) == 2 }, time.Minute, time.Millisecond)
	top := q.top("team", "by", "count", "limit", "1")
	require.True(t, top.Complete)
	require.Len(t, top.Queries, 1)
	got := top.Queries[0]
	require.Equal(t, "m", got.Query)
	require.Equal(t, "query", got.Kind)
	require.Equal(t, "team", got.Tenant)
	require.EqualValues(t, 3, got.Count)
	require.EqualValues(t, 9, got.Series)
	require.Positive(t, got.Samples)
	require.GreaterOrEqual(t, got.Cost, got.Samples)
	require.Positive(t, got.TotalSeconds)
	require.LessOrEqual(t, got.MaxSeconds, got.TotalSeconds)
	require.Zero(t, got.Interrupted)
	for _, bad := range [][]string{{"by", "x"}, {"limit", "0"}, {"limit", "1001"}} {
		code, _ := q.as(tenant.Header, "team", "/api/v1/top_queries", bad...)
		require.Equal(t, 400, code, bad)
	}
}

// Neither expressions nor tenants without end take more memory, and the queries of a
// tenant that asks little stay.
func TestTopQueries_AreBoundedAndFair(t *testing.T) {
	top := newTopQueries(time.Now())
	r := testRequests(0)
	note := func(id, expression string, d time.Duration) {
		a := &account{share: r.budget.share(id, nil), about: requestInfo{kind: "query", expression: expression}}
		top.note(a, d, false)
		a.share.close()
	}
	note("quiet", "up", time.Millisecond)
	note("noisy", "kept", time.Hour)
	for i := range 3 * mostTopQueries {
		note("noisy", fmt.Sprintf("m_%d", i), time.Second)
	}
	require.Len(t, top.known, mostTopQueries)
	for i := range 20 {
		note("noisy", fmt.Sprintf("%d", i)+strings.Repeat("x", mostTopBytes/8), time.Minute)
		require.LessOrEqual(t, top.bytes, mostTopBytes)
	}
	list := top.list(t.Context(), promapi.TopByTime, 1)
	require.Equal(t, "kept", list.Queries[0].Query)
	require.False(t, list.Complete)
	require.Contains(t, top.known, topKey{"quiet", "query", "up"})
	bytes, tenants := 0, map[string]int{}
	for k := range top.known {
		bytes += k.size()
		tenants[k.tenant]++
	}
	require.Equal(t, bytes, top.bytes)
	require.Equal(t, tenants, top.ofTenant)
}

func TestMemoryStatus_HidesOtherTenants(t *testing.T) {
	r := testRequests(1 << 30)
	for _, id := range []string{"a", "b"} {
		ctx, end := r.begin(tenant.NewContext(t.Context(), id), requestInfo{})
		defer end()
		require.NoError(t, accountOf(ctx).take(ctx, 1000))
	}
	all := r.budget.status(t.Context())
	require.Len(t, all.Tenants, 2)
	require.Equal(t, 2, all.Requests)
	require.Equal(t, all.UsedBytes, all.Tenants["a"]+all.Tenants["b"])
	own := r.budget.status(tenant.NewOnlyContext(tenant.NewContext(t.Context(), "a")))
	require.Equal(t, promapi.MemoryStatus{
		LimitBytes: 1 << 30, UsedBytes: all.Tenants["a"], Requests: 1, Tenants: map[string]int64{"a": all.Tenants["a"]},
	}, own)
}
