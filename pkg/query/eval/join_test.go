package eval

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
)

// changing is a pod whose version changes: series follow each other, and the last
// sample of each is followed by a stale marker.
const changing = `load 30s
  cpu{pod="a", version="1"} 1 2 3 4 stale
  cpu{pod="a", version="2"} _ _ _ _ 5 6 7 8
  cpu{pod="b", version="1"} 1 1 1 1 1 1 1 1
  limit{pod="a", node="x"} 2 2 stale
  limit{pod="a", node="y"} _ _ 4 4 4 4 4 4
  limit{pod="b", node="x"} 8 8 8 8 8 8 8 8
  other{pod="a"} 1 1 1 1 1 1 1 1
`

// Series that follow each other are joined here, without Prometheus's engine.
func TestJoin_ChangingSeries(t *testing.T) {
	ng, db := oracleEngine(t), sorted{load(t, changing)}
	for _, expr := range []string{
		`cpu / on (pod) limit`,
		`limit / on (pod) cpu`,
		`(cpu / on (pod) limit) * 100 > 20`,
		`cpu / on (pod) group_left (node) limit`,
		`limit * on (pod) group_right (node) cpu`,
		`max_over_time((cpu / on (pod) limit)[2m:30s])`,
		`sum by (pod) (cpu / on (pod) limit)`,
		`cpu and on (pod) limit`,
		`cpu unless on (pod) limit{node="x"}`,
		`cpu{version="1"} or on (pod) cpu`,
		`count_over_time((cpu{version="1"} or other)[2m:30s])`,
		`label_replace(cpu, "version", "", "", "")`,
		`cpu + on (pod) fill_right (0) limit{node="x"}`,
		`absent(cpu{version="2"})`,
	} {
		e := evaluation{expr: expr, start: time.Unix(0, 0), end: time.Unix(210, 0), step: 30 * time.Second}
		v, err := compareEngines(ng, db, e)
		require.NoError(t, err, expr)
		require.Equal(t, native, v, expr)
	}
}

// Prometheus's engine gives a result for a missing series the labels of another one, which it
// looks up by the same bytes: the first query has one series there, and two here.
func TestJoin_LeavesFillsOfGroups(t *testing.T) {
	ng := oracleEngine(t)
	db := sorted{load(t, `
load 30s
  many{a="1"} 1 1 _ _
  one{a="1"} _ _ 1 1
`)}
	for _, expr := range []string{
		`(sum by (a) (one)) - on (b) group_right () fill (2) (sum by (a) (many))`,
		`(sum by (a) (many)) - on (b) group_left () fill_right (2) (sum by (a) (one))`,
	} {
		e := evaluation{expr: expr, start: time.Unix(0, 0), end: time.Unix(600, 0), step: 30 * time.Second}
		v, err := compareEngines(ng, db, e)
		require.Equal(t, fallback, v, "%s: %v", expr, err)
	}
}

// An error of Prometheus's engine is never an answer here.
func TestJoin_LeavesErrors(t *testing.T) {
	ng, db := oracleEngine(t), sorted{load(t, changing)}
	for _, expr := range []string{
		`cpu / on () limit`,
		`other / on () cpu`,
		`cpu / on () group_left () other + on () other`,
		`label_replace(cpu, "pod", "", "", "") * 2`,
		`abs({pod="a", __name__=~"cpu|other"}) and other + on () cpu`,
	} {
		e := evaluation{expr: expr, start: time.Unix(0, 0), end: time.Unix(210, 0), step: 30 * time.Second}
		v, err := compareEngines(ng, db, e)
		require.Equal(t, failed, v, "%s: %v", expr, err)
	}
}

// generatedSeries is a storage of n series for each selector.
type generatedSeries struct {
	n int
	// reading is called for each series.
	reading func()
}

func (g generatedSeries) Select(_ context.Context, s Selector) SeriesStream {
	return &generatedStream{g: g, sel: s}
}

type generatedStream struct {
	listStream
	g   generatedSeries
	sel Selector
	i   int
}

func (s *generatedStream) Next() bool {
	s.g.reading()
	s.i++
	return s.i <= s.g.n
}

func (s *generatedStream) At() Series {
	l := &listSeries{labels: labels.FromStrings("__name__", "m", "id", fmt.Sprint(s.i))}
	for t := s.sel.Hints.Start; t <= s.sel.Hints.End; t += 60_000 {
		l.samples.T, l.samples.V = append(l.samples.T, t), append(l.samples.V, float64(s.i))
	}
	return l
}

// nodes are expressions with each operator that reads others.
var nodes = []string{
	`m + m`, `m and m`, `m or m`, `m unless m`, `m * on (id) group_left () m`, `-m`, `m * 2`, `abs(m)`,
	`clamp(m, scalar(m), 1)`, `absent(m)`, `sort(m)`, `histogram_quantile(0.5, m)`, `label_replace(m, "a", "b", "id", ".*")`,
	`max_over_time(m[1h:1m])`, `max_over_time((m + m)[1h:1m])`, `scalar(m) + vector(1)`, `m @ 0 + m`,
}

// program compiles an expression over many steps.
func program(t testing.TB, expr string, o Options) *Program {
	e := evaluation{expr: expr, start: time.Unix(7200, 0), end: time.Unix(7200*2, 0), step: time.Minute}
	q, err := e.query(oracleEngine(t), &dataset{})
	require.NoError(t, err)
	t.Cleanup(q.Close)
	p, err := Compile(q.Statement().(*parser.EvalStmt), o)
	require.NoError(t, err, expr)
	return p
}

// Cancellation ends every operator with the error of the context, and no goroutine
// stays: synctest waits for all.
func TestExec_EndsWithContext(t *testing.T) {
	for _, expr := range nodes {
		p := program(t, expr, testOptions())
		for _, after := range []int{1, 500, 1500} {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				left := after
				_, err := p.Exec(ctx, generatedSeries{n: math.MaxInt, reading: func() {
					if left--; left == 0 {
						cancel()
					}
				}})
				require.ErrorIs(t, err, context.Canceled, expr)
			})
		}
	}
}

// Each operator takes what it holds from the budget before, and gives all back.
func TestExec_MemoryIsBounded(t *testing.T) {
	refused := errors.New("too much")
	for _, expr := range []string{`m + m`, `m * on (id) group_left () m`, `sort(m)`, `max_over_time((m + m)[1h:1m])`, `histogram_quantile(0.5, m)`, `m`} {
		var taken, read int64
		o := testOptions()
		o.Workers = 1
		o.Take = func(_ context.Context, n int64) error {
			if taken+n > 4<<20 {
				return refused
			}
			taken += n
			return nil
		}
		o.Give = func(n int64) { taken -= n }
		p := program(t, expr, o)
		_, err := p.Exec(t.Context(), generatedSeries{n: 1 << 20, reading: func() { read++ }})
		require.ErrorIs(t, err, refused, expr)
		require.Less(t, read, int64(4000), expr)
		require.Zero(t, taken, expr)
	}
}
