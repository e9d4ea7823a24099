package query

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/query/promapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// serveGRPC serves what register registers on a real port.
func serveGRPC(t testing.TB, register func(grpc.ServiceRegistrar)) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := grpc.NewServer(storerpc.ServerOptions()...)
	register(srv)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(lis)
	}()
	t.Cleanup(func() { srv.Stop(); <-done })
	return lis.Addr().String()
}

// serveStore serves a store and its Info.
func serveStore(t testing.TB, s storeapi.Store) string {
	return serveGRPC(t, func(r grpc.ServiceRegistrar) {
		storerpc.RegisterStore(r, s, storerpc.ServerConfig{})
		storerpc.RegisterInfo(r, storerpc.InfoConfig{Info: s.Info, Services: storerpc.Services{Store: true}})
	})
}

func (q *process) running(id string) []promapi.RunningQuery {
	q.t.Helper()
	code, body := q.as(tenant.Header, id, "/api/v1/queries")
	require.Equal(q.t, 200, code, body)
	var a struct {
		Data struct {
			Queries []promapi.RunningQuery `json:"queries"`
		} `json:"data"`
	}
	require.NoError(q.t, json.Unmarshal([]byte(body), &a))
	return a.Data.Queries
}

// end deletes a running query and returns the status.
func (q *process) end(id, query string) int {
	q.t.Helper()
	req, err := http.NewRequest(http.MethodDelete, q.url+"/api/v1/queries/"+query, nil)
	require.NoError(q.t, err)
	req.Header.Set(tenant.Header, id)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(q.t, err)
	require.NoError(q.t, resp.Body.Close())
	return resp.StatusCode
}

// A query that hangs two tiers below is listed on top, and its end reaches the store.
func TestRunningQueries_EndReachesAllTiers(t *testing.T) {
	store := fakeStore(t, "hangs", 3, 10)
	store.About.MaxTime, store.About.TSDBs = 1<<60, nil // /federate asks for the present
	begun, ended := make(chan string, 10), make(chan struct{}, 10)
	store.Wrap = func(ctx context.Context, _ *storeapi.Request, _ storeapi.SeriesSet) storeapi.SeriesSet {
		begun <- tenant.FromContext(ctx)
		<-ctx.Done()
		ended <- struct{}{}
		return storeapi.ErrSet(ctx.Err())
	}
	leaf := startQuerier(t, "--endpoint="+serveStore(t, store))
	top := startQuerier(t, "--endpoint="+serveGRPC(t, leaf.q.RegisterGRPC), "--query.timeout=1h", "--query.enforce-tenancy", "--query.tenant-label-name=store")

	type answer struct {
		code int
		body string
	}
	answers := make(chan answer, 1)
	for _, call := range [][]string{
		{"query", "/api/v1/query", "query", "rate(m[5m])", "time", "5"},
		{"series", "/api/v1/series", "match[]", "m"},
		{"federate", "/federate", "match[]", "m"},
	} {
		go func() {
			code, body := top.as(tenant.Header, "hangs", call[1], call[2:]...)
			answers <- answer{code, body}
		}()
		require.Equal(t, "hangs", <-begun)
		require.Empty(t, top.running("other"), "another tenant sees nothing")
		all := top.running("hangs|other")
		require.Len(t, all, 1)
		got := all[0]
		require.Equal(t, call[0], got.Kind)
		require.Equal(t, "reading", got.Stage)
		require.Equal(t, "hangs", got.Tenant)
		require.Equal(t, call[3], got.Query)
		require.NotEmpty(t, got.Remote)
		require.NotEmpty(t, got.UserAgent)
		require.Equal(t, http.StatusNotFound, top.end("other", got.ID))
		require.Equal(t, http.StatusNotFound, top.end("hangs", "unknown"))
		require.Equal(t, http.StatusNoContent, top.end("hangs", got.ID))
		<-ended
		a := <-answers
		require.GreaterOrEqual(t, a.code, 400)
		if call[0] == "query" {
			require.Equal(t, http.StatusUnprocessableEntity, a.code, a.body)
			require.Contains(t, a.body, "was ended by a request")
		}
		require.Eventually(t, func() bool { return len(top.running("hangs")) == 0 }, time.Minute, time.Millisecond)
	}
	requireEmpty(t, top.q.engine.budget)
}

func TestRunningQueries_OverGRPC(t *testing.T) {
	store := fakeStore(t, "hangs", 3, 10)
	begun := make(chan struct{}, 10)
	store.Wrap = func(ctx context.Context, _ *storeapi.Request, _ storeapi.SeriesSet) storeapi.SeriesSet {
		begun <- struct{}{}
		<-ctx.Done()
		return storeapi.ErrSet(ctx.Err())
	}
	q := localQuerier(t, []storeapi.Store{store}, "--query.timeout=1h")
	c := q.grpc()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-scope-orgid", "team")
	stream, err := c.Query(ctx, &storepb.QueryRequest{Query: "m", TimeSeconds: 5})
	require.NoError(t, err)
	<-begun
	all := q.running("any")
	require.Len(t, all, 1)
	require.Equal(t, "grpc_query", all[0].Kind)
	require.Equal(t, "team", all[0].Tenant)
	require.Contains(t, all[0].UserAgent, "grpc-go")
	require.Equal(t, http.StatusNoContent, q.end("any", all[0].ID))
	_, err = stream.Recv()
	require.Equal(t, codes.Canceled, status.Code(err), "%v", err)
	require.ErrorContains(t, err, "was ended by a request")
}

// Tenants get slots in turns, and heavy queries leave one to others.
func TestSlots_TenantsAndHeavyQueriesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := newSlotTracker("", 4, nil, nil)
		require.NoError(t, err)
		s.mostHeavy = 1
		s.ofTenant = func(tenant string) int {
			if tenant == "limited" {
				return 1
			}
			return 0
		}
		r := testRequests(1 << 30)
		got := make(chan string, 20)
		start := func(name, id string, work int64) {
			go func() {
				ctx, end := r.begin(tenant.NewContext(t.Context(), id), requestInfo{})
				defer end()
				accountOf(ctx).work.Add(work)
				n, err := s.Insert(ctx, name)
				if err != nil {
					got <- err.Error()
					return
				}
				got <- name
				time.Sleep(time.Minute)
				s.Delete(n)
			}()
			synctest.Wait()
		}
		for range 3 {
			start("heavy", "a", 2*heavyWork)
		}
		require.Equal(t, "heavy", <-got)
		require.Empty(t, got, "one heavy query at a time")
		start("light", "a", 0)
		require.Equal(t, "light", <-got, "it passes the heavy ones")
		start("limited", "limited", 0)
		start("limited", "limited", 0)
		require.Equal(t, "limited", <-got)
		require.Empty(t, got, "the tenant has a limit of its own")
		start("light", "a", 0)
		require.Equal(t, "light", <-got)
		for range 5 {
			start("light", "a", 0) // all slots are taken
		}
		start("b", "b", 0)
		require.Empty(t, got)
		time.Sleep(30 * time.Second)
		require.Empty(t, got)
		time.Sleep(31 * time.Second) // all four end
		synctest.Wait()
		var order []string
		for len(got) > 0 {
			order = append(order, <-got)
		}
		require.Contains(t, order, "b", "it does not wait for those of a that came before")
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Zero(t, s.held)
		require.Zero(t, s.heavy)
		require.Empty(t, s.byTenant)
		requireEmpty(t, r.budget)
	})
}

// A tenant that fills the queue loses its newest queries to tenants with fewer.
func TestSlots_FullQueueRefusesTheTenantWithTheMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := newSlotTracker("", 1, nil, nil)
		require.NoError(t, err)
		s.mostWaiting = 3
		r := testRequests(1 << 30)
		type result struct {
			name string
			n    int
			err  error
		}
		got := make(chan result, 10)
		ask := func(id, name string) {
			ctx, end := r.begin(tenant.NewContext(t.Context(), id), requestInfo{})
			go func() {
				defer end()
				n, err := s.Insert(ctx, name)
				got <- result{name, n, err}
			}()
			synctest.Wait()
		}
		for i := range 5 {
			ask("flood", fmt.Sprint("flood ", i))
		}
		held := <-got
		require.NoError(t, held.err)
		refused := <-got
		require.Equal(t, "flood 4", refused.name, "one runs, three wait")
		require.ErrorIs(t, refused.err, errBusy)
		ask("small", "small")
		refused = <-got
		require.Equal(t, "flood 3", refused.name)
		require.ErrorIs(t, refused.err, errBusy)
		var order []string
		for held.n != 0 {
			order = append(order, held.name)
			s.Delete(held.n)
			synctest.Wait()
			held = result{}
			if len(got) > 0 {
				held = <-got
				require.NoError(t, held.err)
			}
		}
		require.ElementsMatch(t, []string{"flood 0", "flood 1", "flood 2", "small"}, order)
		require.Zero(t, s.held)
		require.Zero(t, s.queue.n)
	})
}

// A query that turns out to be heavy exchanges its slot.
func TestSlots_QueryThatBecomesHeavyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := newSlotTracker("", 4, nil, nil)
		require.NoError(t, err)
		s.mostHeavy, s.mostWaiting = 1, 1
		r := testRequests(1 << 30)
		ctx, end := r.begin(t.Context(), requestInfo{})
		defer end()
		n, err := s.Insert(ctx, "becomes heavy")
		require.NoError(t, err)
		other, endOther := r.begin(t.Context(), requestInfo{})
		defer endOther()
		accountOf(other).work.Add(2 * heavyWork)
		m, err := s.Insert(other, "heavy")
		require.NoError(t, err)
		require.NoError(t, accountOf(ctx).pace(ctx))
		accountOf(ctx).work.Add(2 * heavyWork)
		paced := make(chan error, 1)
		go func() { paced <- accountOf(ctx).pace(ctx) }()
		synctest.Wait()
		require.Empty(t, paced)
		require.Equal(t, stageQueued, accountOf(ctx).stageNow())
		require.Equal(t, 1, s.held)
		// No more than mostWaiting wait.
		third, endThird := r.begin(t.Context(), requestInfo{})
		defer endThird()
		accountOf(third).work.Add(2 * heavyWork)
		_, err = s.Insert(third, "third")
		require.ErrorIs(t, err, errBusy)
		s.Delete(m)
		require.NoError(t, <-paced)
		s.Delete(n)
		require.Zero(t, s.held)
	})
}
