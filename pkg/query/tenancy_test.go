package query

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// described is a store with metadata that it does not keep by tenant.
type described struct {
	named
	onlyFor []string
}

func (d *described) Metadata(ctx context.Context, _ string, _ int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	if tenant.Only(ctx) {
		d.onlyFor = append(d.onlyFor, tenant.FromContext(ctx))
	}
	out := map[string][]storeapi.Metadata{}
	for _, n := range []string{"secret_ta", "secret_tb", "requests", "nobody"} {
		out[n] = []storeapi.Metadata{{Type: "gauge", Help: "help of " + n}}
	}
	return out, nil, nil
}

func describedStore(t *testing.T, name string, series ...string) *described {
	data := storetest.Data{External: labels.FromStrings("tenant_id", name)}
	for _, s := range series {
		data.Series = append(data.Series, storetest.Series{Labels: labels.FromStrings("__name__", s), Samples: storetest.Floats(0, 1000, 5)})
	}
	return &described{named: named{storetest.NewFake(t, data), "store-of-" + name}}
}

func (q *process) as(header, id, path string, kv ...string) (int, string) {
	q.t.Helper()
	form := url.Values{}
	for i := 0; i < len(kv); i += 2 {
		form.Add(kv[i], kv[i+1])
	}
	req, err := http.NewRequest(http.MethodGet, q.url+path+"?"+form.Encode(), nil)
	require.NoError(q.t, err)
	req.Header.Set(header, id)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(q.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	require.NoError(q.t, err)
	return resp.StatusCode, string(b)
}

func TestEnforcedTenancy_ShowsNothingOfOthersAnywhere(t *testing.T) {
	ta := describedStore(t, "ta", "secret_ta", "requests_total")
	tb := describedStore(t, "tb", "secret_tb")
	q := localQuerier(t, []storeapi.Store{ta, tb}, "--query.enforce-tenancy")
	for _, header := range []string{tenant.Header, tenant.OrgHeader} {
		for _, call := range [][]string{
			{"/api/v1/query", "query", `{__name__=~".+"}`, "time", "4"},
			{"/api/v1/query", "query", `{__name__=~".+",tenant_id="tb"}`, "time", "4"},
			{"/api/v1/query_range", "query", `{__name__=~".+"}`, "start", "0", "end", "4", "step", "1"},
			{"/api/v1/series", "match[]", `{__name__=~".+"}`},
			{"/api/v1/label/__name__/values"}, {"/api/v1/metadata"}, {"/api/v1/stores"}, {"/stores"}, {"/"},
			{"/federate", "match[]", `{__name__=~".+"}`},
			{"/api/v1/query_exemplars", "query", "secret_tb", "start", "0", "end", "4"},
		} {
			code, body := q.as(header, "ta", call[0], call[1:]...)
			require.Equal(t, 200, code, "%v: %s", call, body)
			require.NotContains(t, body, "secret_tb", "%v", call)
			require.NotContains(t, body, `"tb"`, "%v", call)
			require.NotContains(t, body, "store-of-tb", "%v", call)
		}
		_, body := q.as(header, "ta", "/api/v1/metadata")
		require.Contains(t, body, "secret_ta")
		require.Contains(t, body, "requests", "the metric of requests_total")
		require.NotContains(t, body, "nobody")
		_, body = q.as(header, "tb", "/api/v1/metadata", "limit", "1")
		require.Contains(t, body, "secret_tb", "the limit counts what is shown")
	}
	require.Contains(t, ta.onlyFor, "ta", "stores that keep metadata by tenant get the tenant")
	// Without enforcement every tenant sees all data.
	q = localQuerier(t, []storeapi.Store{ta, tb})
	_, body := q.as(tenant.Header, "ta", "/api/v1/metadata")
	require.Contains(t, body, "nobody")
}

func TestTenantHeaders_ConfiguredTakesPrecedence(t *testing.T) {
	q := localQuerier(t, nil, "--query.tenant-header=X-Team")
	for _, c := range []struct{ header, id, want string }{
		{"X-Team", "a", "a"}, {tenant.Header, "b", "b"}, {tenant.OrgHeader, "c", "c"}, {"Other", "d", "default-tenant"},
	} {
		r, err := http.NewRequest(http.MethodGet, "/", nil)
		require.NoError(t, err)
		r.Header.Set(c.header, c.id)
		ctx, _, err := q.q.tenant(r)
		require.NoError(t, err)
		require.Equal(t, c.want, tenant.FromContext(ctx))
	}
	for _, bad := range []string{"a|", "a|../b", "|", strings.Repeat("a|", 101) + "a"} {
		code, body := q.as(tenant.OrgHeader, bad, "/api/v1/query", "query", "1")
		require.Equal(t, http.StatusBadRequest, code)
		require.Contains(t, body, "invalid tenant")
	}
	r, err := http.NewRequest(http.MethodGet, "/", nil)
	require.NoError(t, err)
	r.Header.Set(tenant.Header, "b|a|b")
	ctx, _, err := q.q.tenant(r)
	require.NoError(t, err)
	require.Equal(t, "a|b", tenant.FromContext(ctx))
	// A proxy sets one header; a client must not be able to add another.
	r.Header.Set(tenant.OrgHeader, "c")
	_, _, err = q.q.tenant(r)
	require.ErrorContains(t, err, "name different tenants")
	r.Header.Set(tenant.OrgHeader, "b|a|b")
	_, _, err = q.q.tenant(r)
	require.NoError(t, err)
	r.Header.Set(tenant.OrgHeader, "anonymous")
	ctx, _, err = q.q.tenant(r)
	require.NoError(t, err, "the query frontend of Thanos sends it with each request")
	require.Equal(t, "a|b", tenant.FromContext(ctx))
	r.Header.Del(tenant.Header)
	ctx, _, err = q.q.tenant(r)
	require.NoError(t, err)
	require.Equal(t, "anonymous", tenant.FromContext(ctx))
	r.Header.Set(tenant.Header, "b|a|b")
	r.Header.Add(tenant.OrgHeader, "c")
	_, _, err = q.q.tenant(r)
	require.ErrorContains(t, err, "name different tenants", "the second value of a header counts")
}

// A request may read several tenants, and choose among them, never more.
func TestEnforcedTenancy_OfSeveralTenants(t *testing.T) {
	var stores []storeapi.Store
	for _, id := range []string{"ta", "tb", "tc", "t.*"} {
		stores = append(stores, describedStore(t, id, "secret_"+id[:2], "shared"))
	}
	q := localQuerier(t, stores, "--query.enforce-tenancy")
	for _, c := range []struct{ id, query, want, lacks string }{
		{"ta|tb", "shared", "ta tb", "tc t.*"},
		{"tb|ta", `shared{tenant_id="tb"}`, "tb", "ta tc"},
		{"ta|tb", `shared{tenant_id=~"t.*"}`, "ta tb", "tc t.*"},
		{"ta|tb", `shared{tenant_id="tc"}`, "", "ta tb tc"},
		{"t.*|ta", "shared", "ta t.*", "tb tc"},
		{"ta", `shared{tenant_id="tc"}`, "ta", "tb tc"},
	} {
		for _, call := range [][]string{
			{"/api/v1/query", "query", c.query, "time", "4"}, {"/api/v1/series", "match[]", c.query},
			{"/api/v1/label/tenant_id/values", "match[]", c.query},
		} {
			code, body := q.as(tenant.OrgHeader, c.id, call[0], call[1:]...)
			require.Equal(t, 200, code, body)
			for _, id := range strings.Fields(c.want) {
				require.Contains(t, body, `"`+id+`"`, "%v %v", c, call)
			}
			for _, id := range strings.Fields(c.lacks) {
				require.NotContains(t, body, `"`+id+`"`, "%v %v", c, call)
			}
		}
	}
	_, body := q.as(tenant.OrgHeader, "ta|tb", "/api/v1/stores")
	require.Contains(t, body, `"tenant_id":"ta"`)
	require.Contains(t, body, `"tenant_id":"tb"`)
	require.NotContains(t, body, `"tenant_id":"tc"`)
	_, body = q.as(tenant.OrgHeader, "ta|tb", "/api/v1/metadata")
	require.Contains(t, body, "secret_ta")
	require.Contains(t, body, "secret_tb")
}

// The StoreAPI of a querier that enforces tenancy restricts its callers, too.
func TestEnforcedTenancy_OverGRPC(t *testing.T) {
	ta, tb := describedStore(t, "ta", "secret_ta"), describedStore(t, "tb", "secret_tb")
	red := newListBackend(t, everyList(), storeapi.AlertFiring, "tenant_id", "ta")
	blue := newListBackend(t, everyList(), storeapi.AlertFiring, "tenant_id", "tb")
	q := startQuerier(t, "--endpoint="+serveStore(t, ta), "--endpoint="+serveStore(t, tb),
		"--endpoint="+red.addr, "--endpoint="+blue.addr, "--query.enforce-tenancy")
	c := storerpc.NewClient(storetest.Dial(t, func(srv *grpc.Server) { q.q.RegisterGRPC(srv) }, storerpc.ServerOptions()...), "querier")
	ctx := tenant.NewContext(t.Context(), "ta")
	all := &storeapi.Request{MaxTime: 1 << 60, MaxResolution: 1 << 60, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".*")}, SkipChunks: true}
	set := c.Select(ctx, all)
	var seen []string
	for set.Next() {
		seen = append(seen, set.At().Labels.String())
	}
	require.NoError(t, set.Err())
	require.NoError(t, set.Close())
	names, _, err := c.LabelValues(ctx, "__name__", all)
	require.NoError(t, err)
	ids, _, err := c.LabelValues(ctx, "tenant_id", all)
	require.NoError(t, err)
	groups, _, err := c.Rules(ctx, &storeapi.RulesRequest{})
	require.NoError(t, err)
	targets, _, err := c.Targets(ctx, &storeapi.TargetsRequest{})
	require.NoError(t, err)
	stats, _, err := c.TSDBStatus(ctx, &storeapi.TSDBStatusRequest{Limit: 10})
	require.NoError(t, err)
	require.NotEmpty(t, seen)
	require.NotEmpty(t, groups)
	require.NotEmpty(t, targets.Active)
	require.NotEmpty(t, stats)
	text := fmt.Sprint(seen, names, ids, groups, targets, stats)
	require.Contains(t, text, "secret_ta")
	require.NotContains(t, text, "tb")
	_, _, err = c.LabelNames(tenant.NewContext(t.Context(), "../ta"), all)
	require.ErrorIs(t, err, storeapi.ErrInvalid)
}
