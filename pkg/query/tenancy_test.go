package query

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
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

func tenantStore(t *testing.T, name string, series ...string) *described {
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
	ta := tenantStore(t, "ta", "secret_ta", "requests_total")
	tb := tenantStore(t, "tb", "secret_tb")
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
	r.Header.Add(tenant.OrgHeader, "c")
	_, _, err = q.q.tenant(r)
	require.ErrorContains(t, err, "name different tenants", "the second value of a header counts")
}
