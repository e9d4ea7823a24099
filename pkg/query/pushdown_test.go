package query

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// listen serves the querier over gRPC and returns its address.
func (q *process) listen() string {
	q.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(q.t, err)
	srv := grpc.NewServer(storerpc.ServerOptions()...)
	q.q.RegisterGRPC(srv)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	q.t.Cleanup(func() {
		srv.Stop()
		<-done
	})
	return l.Addr().String()
}

// fill writes random series of all kinds.
func (b *backend) fill(r *rand.Rand) {
	for job := range 2 {
		for instance := range 2 {
			ls := []string{"job", fmt.Sprint("j", job), "instance", fmt.Sprint("i", instance)}
			start := 1000 * r.Int64N(15)
			total := 0.0
			b.write("x_total", start, 240, func(int) float64 {
				if total += r.Float64() * 10; r.IntN(50) == 0 {
					total = 0
				}
				return total
			}, ls...)
			b.write("y", start, 200+r.IntN(40), func(int) float64 { return r.NormFloat64() * 1e3 }, ls...)
			for _, le := range []string{"0.1", "1", "+Inf"} {
				n := 0.0
				b.write("b_bucket", start, 240, func(int) float64 { n += float64(r.IntN(5)); return n }, append(ls, "le", le)...)
			}
			app := b.db.Appender(b.t.Context())
			l := labels.FromStrings(append([]string{"__name__", "h"}, ls...)...)
			n := uint64(0)
			for i := range int64(240) {
				n += r.Uint64N(10)
				_, err := app.AppendHistogram(0, l, start+i*15000, &histogram.Histogram{
					Count: n, Sum: float64(n) * r.Float64(), PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{int64(n)},
				}, nil)
				require.NoError(b.t, err)
			}
			require.NoError(b.t, app.Commit())
		}
	}
}

// fleet is three levels of queriers over replica pairs of three clusters.
type fleet struct {
	stores         map[string][]*backend
	eu, us, asia   *process
	top, reference *process
	leaves         []string
}

func startFleet(t *testing.T) *fleet {
	r := rand.New(rand.NewPCG(3, 4))
	tr := &fleet{stores: map[string][]*backend{}}
	querier := func(mode string, addrs ...string) *process {
		args := []string{"--query.replica-label=replica", "--query.mode=" + mode}
		for _, a := range addrs {
			args = append(args, "--endpoint="+a)
		}
		return startQuerier(t, append(args, "--endpoint.info-timeout=10s")...) // no leaf is missing under load
	}
	leaf := func(cluster string) *process {
		var addrs []string
		for _, replica := range []string{"a", "b"} {
			b := newBackend(t, "cluster", cluster, "replica", replica)
			b.fill(r)
			tr.stores[cluster] = append(tr.stores[cluster], b)
			addrs = append(addrs, b.addr)
		}
		return querier("local", addrs...)
	}
	tr.eu, tr.us, tr.asia = leaf("eu"), leaf("us"), leaf("asia")
	middle := querier("distributed", tr.us.listen(), tr.asia.listen())
	tr.leaves = []string{tr.eu.listen(), middle.listen()}
	tr.top, tr.reference = querier("distributed", tr.leaves...), querier("local", tr.leaves...)
	return tr
}

func (q *process) outcomes(outcome string) int {
	return int(testutil.ToFloat64(q.q.engine.push.queries.WithLabelValues(outcome)))
}

// answers returns the series of an answer, sorted, or its error. It asks again where a store
// did not answer in time, which the answer has to say.
func answers(t *testing.T, q *process, expr string, instant bool) []string {
	t.Helper()
	kv := []string{"query", expr, "start", "900", "end", "3000", "step", "70"}
	path := "/api/v1/query_range"
	if instant {
		path, kv = "/api/v1/query", []string{"query", expr, "time", "1800"}
	}
	a := q.get(path, kv...)
	for range 5 {
		if a.code != 200 || a.header.Get("X-Hindsight-Complete") == "true" {
			break
		}
		t.Log("asked again:", expr, a.Warnings)
		a = q.get(path, kv...)
	}
	if a.code != 200 {
		text, _, _ := strings.Cut(a.Error, ":")
		return []string{fmt.Sprint(a.code, text)}
	}
	var data struct{ Result []json.RawMessage }
	require.NoError(t, json.Unmarshal(a.Data, &data), expr)
	var out []string
	for _, s := range data.Result {
		out = append(out, string(s))
	}
	slices.Sort(out)
	return out
}

// expressions generates expressions.
type expressions struct{ *rand.Rand }

func (g expressions) of(all ...string) string { return all[g.IntN(len(all))] }

func (g expressions) selector(name string) string {
	return name + g.of("", "", "", `{cluster="eu"}`, `{cluster=~"us|asia"}`, `{job="j1"}`, `{cluster!="eu",job=~"j.*"}`)
}

func (g expressions) labels() string {
	all := []string{"cluster", "job", "instance", "le"}
	g.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	return strings.Join(all[:g.IntN(4)], ", ")
}

// vector returns an expression of at most so many levels.
func (g expressions) vector(depth int) string {
	if depth == 0 {
		switch g.IntN(5) {
		case 0:
			return fmt.Sprintf("rate(%s[%s])", g.selector("x_total"), g.of("3m", "5m"))
		case 1:
			return fmt.Sprintf("%s(%s[4m])", g.of("avg_over_time", "max_over_time", "stddev_over_time", "count_over_time", "last_over_time"), g.selector("y"))
		case 2:
			return fmt.Sprintf("rate(%s[5m])", g.selector(g.of("h", "b_bucket")))
		case 3:
			return g.selector("y") + g.of("", " offset 2m", " @ 1500", " @ end()")
		}
		return fmt.Sprintf(g.of("max_over_time(rate(%s[2m])[6m:1m]%s)", "max_over_time(rate(%s[2m] @ 1200)[6m:1m])%.0s"), g.selector("x_total"),
			g.of("", "", " offset 3m", " offset -1m", " @ 1500"))
	}
	inner := func() string { return g.vector(depth - 1) }
	switch g.IntN(9) {
	case 0, 1, 2, 3:
		op := g.of("sum", "sum", "avg", "min", "max", "count", "group", "stddev")
		return fmt.Sprintf("%s %s (%s) (%s)", op, g.of("by", "by", "without"), g.labels(), inner())
	case 4:
		return fmt.Sprintf("%s by (%s) (2, %s)", g.of("topk", "bottomk"), g.labels(), inner())
	case 5:
		return fmt.Sprintf("%s %s %s", inner(), g.of("+", "/", ">", "and", "or", "unless", "* on (cluster, job, instance)", "- ignoring (le)"), inner())
	case 6:
		return fmt.Sprintf("%s(%s)", g.of("abs", "ceil", "-", "histogram_count", "sgn"), inner())
	case 7:
		return fmt.Sprintf("histogram_quantile(0.9, %s)", inner())
	}
	return fmt.Sprintf("%s %s %s", inner(), g.of("*", "+", "> bool", "<"), g.of("2", "time()", "0.1"))
}

// With parts of it evaluated by the queriers below, a query has the result that it has
// without, bit for bit.
func TestPushdown_ResultsAreTheSame(t *testing.T) {
	tr := startFleet(t)
	g := expressions{rand.New(rand.NewPCG(1, 2))}
	exprs := []string{
		"sum by (cluster) (rate(x_total[5m]))", "count(y)", "max by (job) (rate(x_total[5m]))", "sum without (instance) (rate(h[5m]))",
		"histogram_quantile(0.9, sum by (cluster, le) (rate(b_bucket[5m])))", "sum(rate(x_total[5m]))", "count without (cluster) (h)",
		`sum by (cluster) (y{cluster="eu"} - h)`, "sum by (cluster) (last_over_time(y[20s]))", "group by (le) (b_bucket)",
		`sum by (cluster) (label_replace(y, "cluster", "$1", "job", "(.*)"))`, "sum by (cluster) (y * on (job) y)",
	}
	for range 120 {
		exprs = append(exprs, g.vector(1+g.IntN(3)))
	}
	for _, expr := range exprs {
		for _, instant := range []bool{false, true} {
			require.Equal(t, answers(t, tr.reference, expr, instant), answers(t, tr.top, expr, instant), "%s, instant %t", expr, instant)
		}
	}
	t.Log("pushed", tr.top.outcomes(outcomePushed), "local", tr.top.outcomes(outcomeLocal), "returned", tr.top.outcomes(outcomeReturned))
	require.Greater(t, tr.top.outcomes(outcomePushed), 60)
	require.Zero(t, tr.reference.outcomes(outcomePushed))
}

// explain says what is pushed where, and why not, and reads nothing.
func TestExplain_ShowsThePlan(t *testing.T) {
	tr := startFleet(t)
	got := tr.top.get("/api/v1/query_range_explain", "query", "sum by (cluster) (rate(x_total[5m])) + on () group_left () sum(y)",
		"start", "900", "end", "3000", "step", "60", "max_source_resolution", "1h")
	require.Equal(t, 200, got.code, got.Error)
	var e explanation
	require.NoError(t, json.Unmarshal(got.Data, &e))
	require.Len(t, e.Parts, 1)
	require.Equal(t, "sum by (cluster) (rate(x_total[5m]))", e.Parts[0].Query)
	require.ElementsMatch(t, tr.leaves, e.Parts[0].Stores)
	require.Contains(t, e.Here, "sum(y)")
	require.Contains(t, fmt.Sprint(e.Decisions), "sum joins series of several queriers in one group")
	require.Len(t, e.Stores, 2)
	require.NotEmpty(t, e.Evaluator)
	require.Len(t, e.Selectors, 2)
	require.Equal(t, "rate", e.Selectors[0].Function)
	require.Equal(t, "raw", e.Selectors[0].MaxResolution, "5m windows are too coarse for 5m")
	require.Equal(t, "1h0m0s", e.Selectors[1].MaxResolution)
	require.Equal(t, 400, tr.top.get("/api/v1/query_explain", "query", "sum(").code)
	got = tr.reference.get("/api/v1/query_explain", "query", "sum(y)", "time", "1800")
	require.Contains(t, string(got.Data), "--query.mode")
}

// A querier with other settings, or that fails, costs nothing but time: all is evaluated
// at the top.
func TestPushdown_FallsBack(t *testing.T) {
	tr := startFleet(t)
	other := startQuerier(t, "--query.replica-label=replica", "--query.mode=distributed", "--query.default-evaluation-interval=2m",
		"--endpoint="+tr.leaves[0], "--endpoint="+tr.leaves[1])
	const expr = "sum by (cluster) (rate(x_total[5m]))"
	require.Equal(t, answers(t, tr.reference, expr, false), answers(t, other, expr, false))
	require.Equal(t, 1, other.outcomes(outcomeReturned))

	// A long expression is not planned.
	long := expr + strings.Repeat(" + 0", 3000)
	require.Equal(t, answers(t, tr.reference, expr, false), answers(t, tr.top, long[:len(expr)+800], false))
	before := tr.top.outcomes(outcomeLocal)
	answers(t, tr.top, long, false)
	require.Equal(t, before+1, tr.top.outcomes(outcomeLocal))

	// Errors of the expression are those of this querier.
	const wrong = "sum by (cluster) (y * on (cluster) y)"
	require.Equal(t, answers(t, tr.reference, wrong, false), answers(t, tr.top, wrong, false))
	require.Contains(t, answers(t, tr.top, wrong, false)[0], "422")

	// A store that is missing below is missing in the answer.
	for _, b := range tr.stores["us"] {
		b.kill()
	}
	got := tr.top.get("/api/v1/query", "query", expr, "time", "1800")
	require.Equal(t, 200, got.code)
	require.NotEmpty(t, got.Warnings)
	require.NotEmpty(t, got.header.Get("X-Hindsight-Missing"))
	require.Equal(t, answers(t, tr.reference, expr, true), answers(t, tr.top, expr, true))
	tr.top.missesPart(`sum(rate(x_total{cluster="us"}[5m] offset 1m))`, tr.leaves[1])
	require.NotEqual(t, 200, tr.top.get("/api/v1/query", "query", expr, "time", "1800", "partial_response", "false").code)
}

// missesPart asks for the part of a querier that lacks the cluster us. The answer says
// which data of the part is missing, as for data that is read from stores.
func (q *process) missesPart(expr, leaf string) {
	q.t.Helper()
	resp, err := http.Get(q.url + "/api/v1/query?" + url.Values{"query": {expr}, "time": {"1800"}}.Encode())
	require.NoError(q.t, err)
	defer resp.Body.Close()
	var body struct {
		Completeness struct {
			Missing []struct {
				Store, Reason string
				Labels        []map[string]string
				Mint, Maxt    int64
			}
		}
	}
	require.NoError(q.t, json.NewDecoder(resp.Body).Decode(&body))
	require.Len(q.t, body.Completeness.Missing, 1)
	m := body.Completeness.Missing[0]
	require.Equal(q.t, leaf, m.Store)
	require.Equal(q.t, "store_warning", m.Reason)
	require.ElementsMatch(q.t, []map[string]string{{"cluster": "us", "replica": "a"}, {"cluster": "us", "replica": "b"}}, m.Labels)
	require.LessOrEqual(q.t, m.Mint, int64(1440_001), "the range begins 6 minutes before the time of the query")
	require.Greater(q.t, m.Mint, int64(0))
	require.Equal(q.t, int64(1740_000), m.Maxt)
}
