package query

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
	"github.com/hindsight-io/hindsight/pkg/storeapi/tsdbstore"
)

// gateway is a store of several label sets that evaluates queries over its data, as the
// store role does.
type gateway struct {
	storeapi.Store
	t    testing.TB
	info storeapi.Info
	q    *Query
	addr string
	srv  *grpc.Server
	// evaluations counts the calls of the Query service, and fault is what they do; see
	// intercept.
	evaluations atomic.Int64
	fault       atomic.Value
	ended       chan struct{}
}

// Info implements storeapi.Store.
func (g *gateway) Info() storeapi.Info { return g.info }

// serveGateway serves the stores together, all of the given label sets, with the settings
// that the flags give.
func serveGateway(t testing.TB, sets []labels.Labels, of []storeapi.Store, args ...string) *gateway {
	t.Helper()
	columns := make([]storeapi.Store, len(of))
	for i, s := range of {
		columns[i] = storetest.Columns(s)
	}
	below := fanout.New(func() []storeapi.Store { return columns }, fanout.Config{})
	g := &gateway{Store: below, t: t, ended: make(chan struct{}, 10)}
	g.fault.Store("")
	g.info = storeapi.Info{
		Component: "store", LabelSets: sets, MinTime: 0, MaxTime: 1 << 50,
		SupportsSharding: true, SupportsWithoutReplicaLabels: true, SupportsSortWithout: true,
	}
	c, err := parseConfig(args...)
	require.NoError(t, err)
	e := EvaluationConfig{Enabled: true, query: c}
	g.q, err = New(e.Query(), Deps{Only: g})
	require.NoError(t, err)
	g.info.Evaluates = e.Settings()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.q.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	require.Eventually(t, func() bool { return g.q.Ready() == nil }, time.Minute, time.Millisecond)
	g.start("127.0.0.1:0")
	return g
}

func (g *gateway) start(addr string) {
	lis, err := net.Listen("tcp", addr)
	require.NoError(g.t, err)
	g.addr = lis.Addr().String()
	g.srv = grpc.NewServer(append(storerpc.ServerOptions(), grpc.StreamInterceptor(g.intercept))...)
	srv := g.srv
	storerpc.RegisterStore(srv, g, storerpc.ServerConfig{})
	storerpc.RegisterInfo(srv, storerpc.InfoConfig{Info: g.Info, Services: storerpc.Services{Store: true}})
	if !strings.Contains(g.fault.Load().(string), "old") {
		g.q.RegisterEvaluation(srv)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(lis) }()
	g.t.Cleanup(func() { srv.Stop(); <-done })
}

// intercept makes calls of the Query service fail in the way of fault.
func (g *gateway) intercept(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if !strings.HasPrefix(info.FullMethod, "/thanos.Query/") {
		return handler(srv, ss)
	}
	g.evaluations.Add(1)
	switch g.fault.Load().(string) {
	case "hangs":
		<-ss.Context().Done()
		g.ended <- struct{}{}
		return ss.Context().Err()
	case "refuses":
		return status.Error(codes.ResourceExhausted, "too much")
	case "busy":
		return status.Error(codes.Unavailable, "busy")
	case "dies":
		ss = &dyingStream{ServerStream: ss}
	}
	return handler(srv, ss)
}

// dyingStream fails after its first message.
type dyingStream struct {
	grpc.ServerStream
	sent int
}

func (s *dyingStream) SendMsg(m any) error {
	if s.sent++; s.sent > 1 {
		return status.Error(codes.Unavailable, "transport is closing")
	}
	return s.ServerStream.SendMsg(m)
}

// gatewayData are the TSDBs of two clusters with two replicas each, with gaps and stale
// markers at different times.
func gatewayData(t testing.TB) (sets []labels.Labels, of []storeapi.Store) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, cluster := range []string{"eu", "us"} {
		for _, replica := range []string{"a", "b"} {
			ext := labels.FromStrings("cluster", cluster, "replica", replica)
			b := newBackend(t, "cluster", cluster, "replica", replica)
			b.fill(r)
			for i := range 3 {
				app := b.db.Appender(t.Context())
				l := labels.FromStrings("__name__", "y", "job", "gaps", "instance", fmt.Sprint(i))
				for at := int64(0); at < 3_600_000; at += 15_000 {
					v := r.NormFloat64()
					switch r.IntN(30) {
					case 0:
						at += 60_000 * r.Int64N(10)
						continue
					case 1:
						v = math.Float64frombits(value.StaleNaN)
					case 2:
						v = []float64{math.NaN(), math.Inf(1), math.Inf(-1), 0}[r.IntN(4)]
					}
					_, err := app.Append(0, l, at+r.Int64N(40), v)
					require.NoError(t, err)
				}
				require.NoError(t, app.Commit())
			}
			sets = append(sets, ext)
			of = append(of, tsdbstore.New(b.db.DB, tsdbstore.Config{Component: "store", External: func() labels.Labels { return ext }}))
		}
	}
	return sets, of
}

// queried is one evaluation: values by their labels as they are printed, bit for bit, and
// the annotations.
func queried(t testing.TB, q promql.Query, ctx context.Context, text string) []string {
	t.Helper()
	defer q.Close()
	res := q.Exec(ctx)
	if res.Err != nil {
		// Which of several wrong groups is named depends on the order of the engine.
		kind, _, _ := strings.Cut(res.Err.Error(), "{")
		return []string{"error: " + kind}
	}
	var out []string
	bits := func(f float64) string { return fmt.Sprintf("%x", math.Float64bits(f)) }
	switch v := res.Value.(type) {
	case promql.Matrix:
		for _, s := range v {
			line := s.Metric.String()
			for _, p := range s.Floats {
				line += fmt.Sprint(" ", p.T, "=", bits(p.F))
			}
			for _, p := range s.Histograms {
				line += fmt.Sprint(" ", p.T, "=", p.H, bits(p.H.Sum), bits(p.H.Count))
			}
			out = append(out, line)
		}
	case promql.Vector:
		for _, s := range v {
			line := fmt.Sprint(s.Metric, " ", s.T, "=", bits(s.F))
			if s.H != nil {
				line = fmt.Sprint(s.Metric, " ", s.T, "=", s.H, bits(s.H.Sum), bits(s.H.Count))
			}
			out = append(out, line)
		}
		slices.Sort(out)
	case promql.Scalar:
		out = append(out, fmt.Sprint(v.T, "=", bits(v.V)))
	}
	warnings, infos := res.Warnings.AsStrings(text, 0, 0)
	slices.Sort(warnings)
	slices.Sort(infos)
	return append(append(out, warnings...), infos...)
}

// times of a query, in milliseconds; a step of 0 is an instant query.
type queryTimes struct{ start, end, step int64 }

func evaluateAt(t testing.TB, q *Query, o queryopts.Options, text string, at queryTimes, prometheus bool) []string {
	t.Helper()
	ctx := queryopts.NewContext(t.Context(), o)
	start, end, step := time.UnixMilli(at.start), time.UnixMilli(at.end), time.Duration(at.step)*time.Millisecond
	var qry promql.Query
	var err error
	switch {
	case !prometheus:
		qry, err = q.engine.NewRangeQuery(ctx, q.queryable, nil, text, start, end, step)
	case at.step == 0:
		qry, err = q.engine.Engine.NewInstantQuery(ctx, q.queryable, nil, text, start)
	default:
		qry, err = q.engine.Engine.NewRangeQuery(ctx, q.queryable, nil, text, start, end, step)
	}
	if err != nil {
		return []string{"error: " + err.Error()}
	}
	return queried(t, qry, ctx, text)
}

// requireOracle compares with Prometheus's engine, which takes the series of an operator in
// random order: with one of several evaluations, or with none if they differ. Of two series in
// a map of Go seven of eight evaluations take the same one first.
func requireOracle(t *testing.T, want []string, evaluate func() []string, what string) {
	first := evaluate()
	for range 80 {
		if slices.Equal(want, first) {
			return
		}
		next := evaluate()
		if !slices.Equal(first, next) {
			return
		}
	}
	require.Equal(t, want, first, what)
}

// A gateway's result is, bit for bit, that of the querier over the samples of the gateway,
// and that of Prometheus's engine: with and without deduplication, for
// times of any milliseconds, with the same annotations.
func TestGatewayEvaluation_ResultsAreTheSame(t *testing.T) {
	sets, of := gatewayData(t)
	g := serveGateway(t, sets, of)
	pushed := startQuerier(t, "--query.replica-label=replica", "--endpoint="+g.addr)
	local := startQuerier(t, "--query.replica-label=replica", "--endpoint="+g.addr, "--no-query.gateway-evaluation")
	for _, seed := range []uint64{8, 80, 160, 240} {
		requireSameResults(t, seed, pushed, local)
	}
	t.Log("pushed", pushed.outcomes(outcomePushed), "local", pushed.outcomes(outcomeLocal), "returned", pushed.outcomes(outcomeReturned))
	require.Greater(t, pushed.outcomes(outcomePushed), 200)
	require.Zero(t, local.outcomes(outcomePushed)+local.outcomes(outcomeLocal))
}

// requireSameResults compares the results of expressions from a seed.
func requireSameResults(t *testing.T, seed uint64, pushed, local *process) {
	t.Helper()
	gen := expressions{rand.New(rand.NewPCG(seed, seed/8*9))}
	exprs := []string{
		"sum by (cluster) (rate(x_total[5m]))", "count(y)", "sum(\n\n y) + on () sum(h)", "quantile(2, y)", "sum(rate(h[5m])) + \n  quantile(3, y)",
		"avg by (job) (avg_over_time(y[4m]))", "stddev(y)", "topk(2, y)", "absent(nothing) * sum(y)", `sum(y{job="gaps"}) or vector(1)`, "sum(y) by (job) > 0",
		"sum(max_over_time(rate(x_total[2m])[6m:]))", "sum(sum_over_time(y[10m] @ end()))", "sum(max_over_time((y @ 600)[5m:1m] offset -1m))", "histogram_quantile(0.9, sum(rate(h[5m])))", "sum(y, 1)[5m:]",
	}
	exprs = exprs[:len(exprs)-1]
	for range 150 {
		exprs = append(exprs, gen.vector(1+gen.IntN(3)))
	}
	for i, expr := range exprs {
		o := queryopts.Options{Dedup: gen.IntN(4) > 0, ReplicaLabels: []string{"replica"}, PartialResponse: true}
		from := 600_000 + gen.Int64N(1_500_000)
		step := 15_001 + gen.Int64N(90_000)
		if gen.IntN(2) == 0 {
			from, step = from-from%60_000, 15_000*(1+gen.Int64N(6)) // as dashboards ask
		}
		at := []queryTimes{{from, from + 900_000, step}, {from, from, 0}}[i%2]
		want := evaluateAt(t, local.q, o, expr, at, false)
		requireOracle(t, want, func() []string { return evaluateAt(t, local.q, o, expr, at, true) }, expr)
		require.Equal(t, want, evaluateAt(t, pushed.q, o, expr, at, false), "%s at %v, dedup %t", expr, at, o.Dedup)
	}
}

// timed is a store whose announcement is another.
type timed struct {
	storeapi.Store
	info storeapi.Info
}

func (s timed) Info() storeapi.Info { return s.info }

// The gateway chooses the resolution, and says which.
func TestGatewayEvaluation_DownsampledData(t *testing.T) {
	w := world(t)
	w.kept = everyDay(true, true, true)
	w.kept[1] = [3]bool{false, true, true}
	w.kept[2] = [3]bool{false, false, true}
	store := timed{w, storeapi.Info{Component: "store", MinTime: 0, MaxTime: 1 << 50, SupportsWithoutReplicaLabels: true, SupportsSortWithout: true}}
	g := serveGateway(t, []labels.Labels{labels.EmptyLabels()}, []storeapi.Store{store})
	pushed, local := startQuerier(t, "--endpoint="+g.addr), startQuerier(t, "--endpoint="+g.addr, "--no-query.gateway-evaluation")
	for i, expr := range []string{
		"sum(gauge)", "sum(avg_over_time(gauge[2h]))", "max(rate(even_total[3h]))", "sum(increase(reset_total[1d]))", "count(count_over_time(short[1h]))",
		"sum(rate(even_hist[2h]))", "histogram_quantile(0.9, sum(rate(hist[4h])))", "sum(const) / sum(gauge)", "sum(quantile_over_time(0.5, gauge[2h]))",
		"sum(gauge) - gauge", "sort(sum by (of) (gauge)) + on () max(const)", "max_over_time(gauge[1h]) + on () sum(const)", "sum(avg_over_time(const[30m])) * on () group_right () gauge",
	} {
		for _, most := range []int64{0, aggr.Resolution5m, aggr.Resolution1h} {
			for _, at := range []queryTimes{{dayMs + 3*60*minuteMs, 4*dayMs - minuteMs, 37 * minuteMs}, {2*dayMs + int64(i)*minuteMs, 0, 0}} {
				o := queryopts.Options{MaxSourceResolution: most, PartialResponse: true}
				want := evaluateAt(t, local.q, o, expr, at, false)
				require.Equal(t, want, evaluateAt(t, pushed.q, o, expr, at, false), "%s, resolution %d, %v", expr, most, at)
			}
		}
	}
	require.Greater(t, pushed.outcomes(outcomePushed), 50)
	require.Positive(t, pushed.outcomes(outcomeReturned), "a query is evaluated in parts over data of several resolutions")
}

// The answer is the same when the evaluation at the gateway fails in any way.
func TestGatewayEvaluation_FallsBack(t *testing.T) {
	sets, of := gatewayData(t)
	const expr = "sum by (job) (rate(x_total[5m]))"
	o := queryopts.Options{Dedup: true, ReplicaLabels: []string{"replica"}, PartialResponse: true}
	at := queryTimes{900_000, 1_800_000, 60_000}
	for _, fault := range []string{"", "refuses", "busy", "dies", "old", "hangs", "settings", "limit"} {
		t.Run(fault, func(t *testing.T) {
			var args []string
			if fault == "settings" {
				args = append(args, "--query.default-evaluation-interval=2m")
			}
			if fault == "limit" {
				args = append(args, "--query.max-fetched-series=3")
			}
			g := serveGateway(t, sets, of, args...)
			if fault == "old" {
				g.srv.Stop()
				g.fault.Store("old")
				g.start("127.0.0.1:0")
			}
			pushed := startQuerier(t, "--query.replica-label=replica", "--endpoint="+g.addr, "--endpoint.info-timeout=10s")
			pushed.q.engine.push.leastLeft = time.Second
			local := startQuerier(t, "--query.replica-label=replica", "--endpoint="+g.addr, "--no-query.gateway-evaluation")
			want := evaluateAt(t, local.q, o, expr, at, false)
			require.NotEmpty(t, want)
			g.fault.Store(fault)
			if fault == "hangs" {
				// The deadline of the request leaves time for an evaluation here.
				got := pushed.get("/api/v1/query", "query", expr, "time", "1800", "timeout", "2s")
				require.Equal(t, 200, got.code, got.Error)
				require.Equal(t, "true", got.header.Get("X-Hindsight-Complete"))
				require.Equal(t, string(local.get("/api/v1/query", "query", expr, "time", "1800").Data), string(got.Data))
			} else {
				require.Equal(t, want, evaluateAt(t, pushed.q, o, expr, at, false))
			}
			switch fault {
			case "":
				require.Equal(t, 1, pushed.outcomes(outcomePushed))
			case "settings":
				require.Equal(t, 1, pushed.outcomes(outcomeLocal))
				require.Zero(t, g.evaluations.Load())
				got := pushed.get("/api/v1/query_explain", "query", expr, "time", "1800")
				require.Contains(t, string(got.Data), "other settings")
			default:
				require.Equal(t, 1, pushed.outcomes(outcomeReturned))
			}
		})
	}
}

// The end of a query, by its client or by a request to end it, ends the evaluation at the
// gateway.
func TestGatewayEvaluation_EndsWithTheQuery(t *testing.T) {
	sets, of := gatewayData(t)
	g := serveGateway(t, sets, of)
	g.fault.Store("hangs")
	q := startQuerier(t, "--query.replica-label=replica", "--endpoint="+g.addr, "--endpoint.info-timeout=1m")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	qry, err := q.q.engine.NewInstantQuery(ctx, q.q.queryable, nil, "sum(y)", time.Unix(1800, 0))
	require.NoError(t, err)
	defer qry.Close()
	done := make(chan error, 1)
	go func() { done <- qry.Exec(ctx).Err }()
	require.Eventually(t, func() bool { return g.evaluations.Load() == 1 }, 10*time.Second, time.Millisecond)
	running := q.q.engine.requests.list(t.Context())
	require.Len(t, running, 1)
	begin := time.Now()
	require.True(t, q.q.engine.requests.end(t.Context(), running[0].ID))
	require.ErrorIs(t, <-done, errEnded)
	<-g.ended
	require.Less(t, time.Since(begin), 5*time.Second, "100 ms, and the time of a busy machine")
}

// Nothing is pushed where another store may have data of the part: neither a gateway of the same blocks,
// nor one of other times that overlap, nor a receiver. Where the times or the labels do not
// overlap, it is.
func TestGatewayEvaluation_OneStoreHasTheData(t *testing.T) {
	sets, of := gatewayData(t)
	const expr = "sum by (job) (rate(x_total[5m]))"
	f := func(name string, pushed int, others ...storeapi.Info) {
		t.Run(name, func(t *testing.T) {
			g := serveGateway(t, sets, of)
			args := []string{"--query.replica-label=replica", "--endpoint=" + g.addr}
			for _, info := range others {
				other := serveGateway(t, info.LabelSets, of)
				evaluates := other.info.Evaluates
				other.info = info
				if info.Component == "store" {
					other.info.Evaluates = evaluates
				}
				args = append(args, "--endpoint="+other.addr)
			}
			q, local := startQuerier(t, args...), startQuerier(t, append(args, "--no-query.gateway-evaluation")...)
			require.Equal(t, answers(t, local, expr, false), answers(t, q, expr, false))
			require.Equal(t, pushed, q.outcomes(outcomePushed))
		})
	}
	const late = 20 * 3_600_000
	f("alone", 1)
	f("the same blocks", 0, storeapi.Info{Component: "store", LabelSets: sets, MaxTime: 1 << 50})
	f("a receiver of the time", 0, storeapi.Info{Component: "receive", LabelSets: sets, MaxTime: 1 << 50})
	f("a receiver of later times", 1, storeapi.Info{Component: "receive", LabelSets: sets, MinTime: late, MaxTime: 1 << 50})
	f("a gateway of later times", 1, storeapi.Info{Component: "store", LabelSets: sets, MinTime: late, MaxTime: 1 << 50})
	f("any labels", 0, storeapi.Info{Component: "sidecar", MaxTime: 1 << 50})
}

// Tenancy, limits and statistics of the querier hold for what the gateway evaluates.
func TestGatewayEvaluation_KeepsTenancyLimitsAndStatistics(t *testing.T) {
	sets, of := gatewayData(t)
	g := serveGateway(t, sets, of)
	common := []string{"--query.replica-label=replica", "--endpoint=" + g.addr}
	const expr = "sum(rate(x_total[5m]))"
	tenants := append(common, "--query.enforce-tenancy", "--query.tenant-label-name=cluster", "--query.default-tenant-id=eu")
	pushed, local := startQuerier(t, tenants...), startQuerier(t, append(tenants, "--no-query.gateway-evaluation")...)
	require.Equal(t, answers(t, local, expr, true), answers(t, pushed, expr, true))
	require.Equal(t, 1, pushed.outcomes(outcomePushed))
	all := startQuerier(t, common...)
	require.NotEqual(t, answers(t, all, expr, true), answers(t, pushed, expr, true))

	limited := startQuerier(t, append(common, "--query.max-fetched-series=5")...)
	got := limited.get("/api/v1/query", "query", expr, "time", "1800")
	require.Equal(t, 422, got.code)
	require.Contains(t, got.Error, "--query.max-fetched-series")
	require.Equal(t, int64(4), g.evaluations.Load())

	whole := startQuerier(t, append(common, "--no-query.gateway-evaluation")...)
	samples := func(q *process) int64 {
		ctx := queryopts.NewContext(t.Context(), queryopts.Options{Dedup: true, ReplicaLabels: []string{"replica"}})
		qry, err := q.q.engine.NewRangeQuery(ctx, q.q.queryable, nil, expr, time.Unix(900, 0), time.Unix(1800, 0), time.Minute)
		require.NoError(t, err)
		defer qry.Close()
		require.NoError(t, qry.Exec(ctx).Err)
		return qry.Stats().Samples.TotalSamples
	}
	require.Equal(t, samples(whole), samples(all))
	var e explanation
	require.NoError(t, json.Unmarshal(all.get("/api/v1/query_explain", "query", expr, "time", "1800").Data, &e))
	require.Equal(t, []explainedPart{{Query: expr, Stores: []string{g.addr}}}, e.Parts)
}
