package query

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// exemplarBackend is a StoreAPI server on a real port that has exemplars only:
// its series with their trace ids. It does not know its external labels, as the
// server beside a sidecar.
type exemplarBackend struct {
	storeapi.Store
	addr   string
	ext    labels.Labels
	offers bool
	series map[string][]string
	kill   func()
}

func newExemplarBackend(t testing.TB, offers bool, ext labels.Labels, series map[string][]string) *exemplarBackend {
	b := &exemplarBackend{ext: ext, offers: offers, series: series}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	b.addr = lis.Addr().String()
	srv := grpc.NewServer(storerpc.ServerOptions()...)
	storerpc.RegisterInfo(srv, storerpc.InfoConfig{Info: b.Info, Services: storerpc.Services{Store: true, Exemplars: offers}})
	if offers {
		storerpc.RegisterExemplars(srv, b)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(lis)
	}()
	b.kill = func() {
		srv.Stop()
		<-done
	}
	t.Cleanup(b.kill)
	return b
}

func (b *exemplarBackend) Info() storeapi.Info {
	return storeapi.Info{Component: "sidecar", LabelSets: []labels.Labels{b.ext}, MaxTime: math.MaxInt64}
}

func (b *exemplarBackend) Exemplars(_ context.Context, r *storeapi.ExemplarRequest) ([]storeapi.ExemplarSeries, storeapi.Warnings, error) {
	var found []exemplar.QueryResult
	for name, ids := range b.series {
		ls := labels.FromStrings("__name__", name)
		if !storeapi.AnySelects(r.Selectors, ls) {
			continue
		}
		res := exemplar.QueryResult{SeriesLabels: ls}
		for i, id := range ids {
			res.Exemplars = append(res.Exemplars, exemplar.Exemplar{Labels: labels.FromStrings("id", id), Value: 1.5, Ts: int64(1000 + i), HasTs: true})
		}
		found = append(found, res)
	}
	return storeapi.ExternalExemplars(b.ext, found), nil, nil
}

// exemplars asks the HTTP API: series and the trace ids of each.
func (q *process) exemplars(query string, kv ...string) (string, apiAnswer) {
	q.t.Helper()
	a := q.get("/api/v1/query_exemplars", append([]string{"query", query, "start", "0", "end", "10"}, kv...)...)
	var data []struct {
		SeriesLabels map[string]string
		Exemplars    []struct {
			Labels    map[string]string
			Value     string
			Timestamp float64
		}
	}
	if a.code == 200 {
		require.NoError(q.t, json.Unmarshal(a.Data, &data))
	}
	var out []string
	for _, s := range data {
		line := labels.FromMap(s.SeriesLabels).String()
		for _, e := range s.Exemplars {
			require.Equal(q.t, "1.5", e.Value)
			require.GreaterOrEqual(q.t, e.Timestamp, 1.0)
			line += " " + e.Labels["id"]
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n"), a
}

func TestExemplars_AreMergedFromStores(t *testing.T) {
	a := newExemplarBackend(t, true, labels.FromStrings("cluster", "eu", "replica", "a"), map[string][]string{"up": {"1", "2"}, "down": {"9"}})
	b := newExemplarBackend(t, true, labels.FromStrings("cluster", "eu", "replica", "b"), map[string][]string{"up": {"1", "3"}})
	us := newExemplarBackend(t, true, labels.FromStrings("cluster", "us", "replica", "a"), map[string][]string{"up": {"7"}})
	mute := newExemplarBackend(t, false, labels.FromStrings("cluster", "eu"), nil)
	args := []string{"--query.replica-label=replica"}
	for _, s := range []*exemplarBackend{a, b, us, mute} {
		args = append(args, "--endpoint="+s.addr)
	}
	q := startQuerier(t, args...)
	got, ans := q.exemplars("rate(up[5m])")
	require.Equal(t, `{__name__="up", cluster="eu"} 1 2 3`+"\n"+`{__name__="up", cluster="us"} 7`, got)
	require.Empty(t, ans.header.Get("X-Hindsight-Missing"))
	got, _ = q.exemplars(`up{cluster="us"} / down`)
	require.Equal(t, `{__name__="down", cluster="eu"} 9`+"\n"+`{__name__="up", cluster="us"} 7`, got)
	got, _ = q.exemplars(`up{cluster="eu"}`, "dedup", "false")
	require.Equal(t, `{__name__="up", cluster="eu", replica="a"} 1 2`+"\n"+`{__name__="up", cluster="eu", replica="b"} 1 3`, got)
	got, _ = q.exemplars(`up`, "storeMatch[]", fmt.Sprintf(`{__address__=%q}`, b.addr))
	require.Equal(t, `{__name__="up", cluster="eu"} 1 3`, got)
	_, ans = q.exemplars(`up{`)
	require.Equal(t, 400, ans.code)
	none, ans := q.exemplars(`nothing`)
	require.Empty(t, none)
	require.JSONEq(t, `[]`, string(ans.Data))

	// A querier behind a querier keeps replicas apart.
	conn := storetest.Dial(t, func(srv *grpc.Server) { q.q.RegisterGRPC(srv) })
	c := storerpc.NewClient(conn, "querier")
	require.NoError(t, c.Refresh(t.Context()))
	require.True(t, c.Services().Exemplars)
	found, _, err := c.Exemplars(t.Context(), &storeapi.ExemplarRequest{MaxTime: 10_000, Selectors: [][]*labels.Matcher{
		{labels.MustNewMatcher(labels.MatchEqual, "cluster", "eu"), labels.MustNewMatcher(labels.MatchEqual, "__name__", "up")},
	}})
	require.NoError(t, err)
	require.Len(t, found, 2)

	// A missing store is named, unless it never announced exemplars.
	b.kill()
	mute.kill()
	for _, wait := range []bool{false, true} {
		if wait {
			q.waitFor("missing", b.addr)
			q.waitFor("missing", mute.addr)
		}
		got, ans = q.exemplars(`up{cluster="eu"}`)
		require.Equal(t, `{__name__="up", cluster="eu"} 1 2`, got)
		require.Equal(t, b.addr, ans.header.Get("X-Hindsight-Missing"))
		_, ans = q.exemplars(`up{cluster="us"}`)
		require.Empty(t, ans.header.Get("X-Hindsight-Missing"), "it cannot have any of these")
	}
	strict := startQuerier(t, "--endpoint="+a.addr, "--endpoint="+b.addr, "--no-exemplar.partial-response")
	_, ans = strict.exemplars("up")
	require.GreaterOrEqual(t, ans.code, 400)
	require.Contains(t, ans.Error, b.addr)
}

func TestExemplars_AreThoseOfOneTenant(t *testing.T) {
	red := newExemplarBackend(t, true, labels.FromStrings("tenant_id", "red"), map[string][]string{"up": {"1"}})
	blue := newExemplarBackend(t, true, labels.FromStrings("tenant_id", "blue"), map[string][]string{"up": {"2"}})
	q := startQuerier(t, "--endpoint="+red.addr, "--endpoint="+blue.addr, "--query.enforce-tenancy", "--query.default-tenant-id=red")
	for _, query := range []string{"up", `up{tenant_id="blue"}`, `{tenant_id=~".+"}`} {
		got, _ := q.exemplars(query)
		require.Equal(t, `{__name__="up", tenant_id="red"} 1`, got)
	}
}

func TestExemplars_IncludeLocalStores(t *testing.T) {
	local := &exemplarBackend{ext: labels.FromStrings("replica", "all"), series: map[string][]string{"up": {"1"}}}
	cfg, err := parseConfig("--query.replica-label=replica")
	require.NoError(t, err)
	q, err := New(cfg, Deps{LocalStores: []storeapi.Store{local, noSeries{}}})
	require.NoError(t, err)
	q.set.Refresh(t.Context()) // it has no endpoints
	eq, err := NewQueryable(q.fanout, QueryableConfig{}).ExemplarQuerier(t.Context())
	require.NoError(t, err)
	up := labels.MustNewMatcher(labels.MatchEqual, "__name__", "up")
	got, err := eq.Select(0, 5000, []*labels.Matcher{up})
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Len(t, got[0].Exemplars, 1)

	eq, err = NewQueryable(noSeries{}, QueryableConfig{}).ExemplarQuerier(t.Context())
	require.NoError(t, err)
	got, err = eq.Select(0, 5000, []*labels.Matcher{up})
	require.NoError(t, err)
	require.Empty(t, got)
}

// noSeries is a store without exemplars.
type noSeries struct{ storeapi.Store }
