package endpoint

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// testQuerier is a querier over real connections.
type testQuerier struct {
	set    *Set
	fanout *fanout.Store
	addr   string
	// leaf counts the requests for series that its own store got.
	leaf atomic.Int64
	// asked counts the requests for series that came in.
	asked atomic.Int64
}

func (q *testQuerier) Select(ctx context.Context, r *storeapi.Request) storeapi.SeriesSet {
	q.asked.Add(1)
	return q.fanout.Select(ctx, r)
}

// Info, LabelNames and LabelValues are those of the fan-out.
func (q *testQuerier) Info() storeapi.Info { return q.fanout.Info() }

func (q *testQuerier) LabelNames(ctx context.Context, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	return q.fanout.LabelNames(ctx, r)
}

func (q *testQuerier) LabelValues(ctx context.Context, name string, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	return q.fanout.LabelValues(ctx, name, r)
}

func listen(t *testing.T) net.Listener {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return lis
}

func serve(t *testing.T, lis net.Listener, register func(*grpc.Server)) {
	srv := grpc.NewServer(storerpc.ServerOptions()...)
	register(srv)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(lis)
	}()
	t.Cleanup(func() {
		srv.Stop()
		<-done
	})
}

// startQueriers starts queriers of which each knows the others that links names
// by number, and one store of its own.
func startQueriers(t *testing.T, links ...[]int) []*testQuerier {
	listeners := make([]net.Listener, len(links))
	for i := range links {
		listeners[i] = listen(t)
	}
	qs := make([]*testQuerier, len(links))
	for i, link := range links {
		q := &testQuerier{addr: listeners[i].Addr().String()}
		own := listen(t)
		leaf := storetest.NewFake(t, storetest.Data{
			External: labels.FromStrings("store", string(rune('a'+i))),
			Series:   []storetest.Series{{Labels: labels.FromStrings("__name__", "m"), Samples: storetest.Floats(1000, 10, 5)}},
		})
		leaf.Wrap = func(_ context.Context, _ *storeapi.Request, set storeapi.SeriesSet) storeapi.SeriesSet {
			q.leaf.Add(1)
			return set
		}
		serve(t, own, func(s *grpc.Server) {
			storerpc.RegisterStore(s, leaf, storerpc.ServerConfig{})
			storerpc.RegisterInfo(s, storerpc.InfoConfig{Info: leaf.Info, Services: storerpc.Services{Store: true}})
		})
		cfg := Config{Specs: []Spec{{Address: own.Addr().String()}}, Interval: 10 * time.Second, Logger: slog.New(slog.DiscardHandler), ExpectedTimeout: time.Hour}
		for _, k := range link {
			cfg.Specs = append(cfg.Specs, Spec{Address: listeners[k].Addr().String()})
		}
		var err error
		q.set, err = New(cfg)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, q.set.close()) })
		q.fanout = fanout.New(func() (out []storeapi.Store) {
			for _, e := range q.set.Endpoints() {
				out = append(out, e)
			}
			return out
		}, fanout.Config{})
		serve(t, listeners[i], func(s *grpc.Server) {
			storerpc.RegisterStore(s, q, storerpc.ServerConfig{})
			storerpc.RegisterInfo(s, storerpc.InfoConfig{
				Info: q.fanout.Info, InfoTo: q.fanout.InfoTo, Instance: q.set.Instance(), Services: storerpc.Services{Store: true},
			})
		})
		qs[i] = q
	}
	for range len(links) + 1 { // until each querier knows the data of the others
		for _, q := range qs {
			q.set.Refresh(t.Context())
		}
	}
	return qs
}

func TestRoute_QueriersThatFindThemselvesOrEachOther(t *testing.T) {
	for name, c := range map[string]struct {
		links  [][]int
		stores int
		// asked is how many requests the queriers get for one to the first.
		asked int64
	}{
		"itself":             {[][]int{{0}}, 1, 0},
		"two":                {[][]int{{1}, {0}}, 2, 1},
		"two and themselves": {[][]int{{0, 1}, {0, 1}}, 2, 1},
		"a ring of three":    {[][]int{{1}, {2}, {0}}, 3, 2},
		"a chain into a two": {[][]int{{1}, {2}, {1}}, 3, 2},
		"a mesh of five":     {[][]int{{1, 2, 3, 4}, {0, 2, 3, 4}, {0, 1, 3, 4}, {0, 1, 2, 4}, {0, 1, 2, 3}}, 5, 4},
		"a mesh and a chain": {[][]int{{1, 2}, {0, 2, 3}, {0, 1}, {1, 4}, {3}}, 5, 4},
	} {
		t.Run(name, func(t *testing.T) {
			qs := startQueriers(t, c.links...)
			r := &storeapi.Request{
				MaxTime: 10_000, Partial: storeapi.PartialAbort,
				Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "m")},
			}
			ctx, report := storeapi.NewReportContext(t.Context())
			set := qs[0].fanout.Select(ctx, r)
			n := 0
			for set.Next() {
				n++
			}
			require.NoError(t, set.Err())
			require.Empty(t, set.Warnings())
			require.NoError(t, set.Close())
			require.Equal(t, c.stores, n)
			asked := int64(0)
			for _, q := range qs {
				asked += q.asked.Load()
				require.Equal(t, int64(1), q.leaf.Load(), "each store is asked once")
			}
			require.Equal(t, c.asked, asked)
			if name == "a mesh of five" {
				// Each of the four others skips the first querier and the three others.
				require.Len(t, report.Skipped(), 16)
				require.Contains(t, report.Skipped(), storeapi.Skipped{
					Store: qs[2].addr + " of " + qs[1].addr, Reason: reason.StoreAskedElsewhere,
				})
				require.Contains(t, report.Skipped(), storeapi.Skipped{
					Store: qs[0].addr + " of " + qs[1].addr, Reason: reason.StoreInLoop,
				})
			}

			values, ws, err := qs[0].fanout.LabelValues(t.Context(), "store", r)
			require.NoError(t, err)
			require.Empty(t, ws)
			require.Len(t, values, c.stores)

			// Their announcements do not grow with their own data that comes back.
			sets := len(qs[0].fanout.Info().LabelSets)
			for range 3 {
				for _, q := range qs {
					q.set.Refresh(t.Context())
				}
			}
			require.Len(t, qs[0].fanout.Info().LabelSets, sets)
		})
	}
}

func TestRoute_SelfIsReported(t *testing.T) {
	q := startQueriers(t, []int{0})[0]
	for _, e := range q.set.Endpoints() {
		if e.Name() == q.addr {
			require.ErrorContains(t, errSelf, e.Status().LastError)
			require.NotEmpty(t, e.Status().LastError)
			require.True(t, e.Info().NoStore)
		} else {
			require.Empty(t, e.Status().LastError)
		}
	}
}

func TestRoute_BoundsHops(t *testing.T) {
	e := &Endpoint{self: "me"}
	ctx, skip, err := e.route(storeapi.WithHops(t.Context(), []string{"a", "b"}))
	require.NoError(t, err)
	require.False(t, skip)
	require.Equal(t, []string{"a", "b", "me"}, storeapi.Hops(ctx))
	_, _, err = e.route(storeapi.WithHops(t.Context(), make([]string, maxHops)))
	require.ErrorIs(t, err, limit.ErrExceeded)
	_, _, err = e.route(storeapi.WithHops(t.Context(), []string{"a", "me"}))
	require.ErrorIs(t, err, storeapi.ErrInvalid, "sent by this querier to itself, as one of a group")
}

// A querier that this one cannot reach is asked by another that can.
func TestRoute_QuerierThatIsDownHereIsReachedAnotherWay(t *testing.T) {
	qs := startQueriers(t, []int{1, 2}, []int{0, 2}, []int{0, 1})
	for _, e := range qs[0].set.Endpoints() {
		if e.Name() == qs[2].addr {
			e.mtx.Lock()
			e.up, e.lastErr = false, errNoAddress
			e.mtx.Unlock()
		}
	}
	ctx, report := storeapi.NewReportContext(t.Context())
	set := qs[0].fanout.Select(ctx, &storeapi.Request{
		MaxTime: 10_000, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "m")},
	})
	n := 0
	for set.Next() {
		n++
	}
	require.NoError(t, set.Err())
	require.Len(t, set.Warnings(), 1)
	require.NoError(t, set.Close())
	require.Equal(t, 3, n)
	missing, _ := report.Missing()
	require.Len(t, missing, 1)
	require.Equal(t, qs[2].addr, missing[0].Store)
}
