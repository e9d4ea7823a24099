package eval

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"
)

// recorder is a storage without series, for both evaluators, that keeps what it is
// asked for.
type recorder struct{ asked []string }

func (r *recorder) record(h *storage.SelectHints, ms []*labels.Matcher) {
	r.asked = append(r.asked, fmt.Sprintf("%v %+v", ms, *h))
}

func (r *recorder) Querier(int64, int64) (storage.Querier, error) {
	return &storage.MockQuerier{SelectMockFunction: func(_ bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
		r.record(h, ms)
		return storage.EmptySeriesSet()
	}}, nil
}

func (r *recorder) Select(_ context.Context, s Selector) SeriesStream {
	r.record(s.Hints, s.Matchers)
	return &testStream{set: storage.EmptySeriesSet()}
}

func TestSelectHints_EqualPrometheus(t *testing.T) {
	e := testEngine(t)
	for _, expr := range []string{
		`x`, `x{a="b"} offset 5m`, `x offset -5m`, `x @ 100`, `x @ end() offset 1h`, `x @ start()`,
		`rate(x[5m])`, `rate(x[5m] offset 1m)`, `rate(x[5m] @ 200 offset 1m)`,
		`sum by (b, a)(rate(x[5m]))`, `sum by (b, a)(x)`, `sum without (b, a)(x)`, `sum(x)`, `sum by (a)((x))`,
		`topk(3, x)`, `topk by (a)(3, -x)`, `quantile(0.5, abs(x))`, `count_values("v", x)`,
		`x + y`, `sum(x + on(a) y)`, `sum(x) / sum by (a)(rate(y[3m]))`, `abs(x * 2)`, `-x`, `x > 5`,
		`max_over_time(x[10m:1m])`, `max_over_time(rate(x[5m])[10m:])`, `max_over_time(rate(x[5m] offset 3m)[10m:1m] offset 7m)`,
		`max_over_time(rate(x[5m])[10m:1m] @ 300 offset 7m)`, `max_over_time(x[10m:1m] @ end())`,
		`max_over_time(rate(x[5m] @ 100)[10m:1m])`,
		`sum_over_time(max_over_time(rate(x[5m])[10m:1m] offset 2m)[1h:] offset 1m)`,
		`sum_over_time(max_over_time(rate(x[5m])[10m:1m] @ 500)[1h:])`,
		`histogram_quantile(0.9, sum by (le)(rate(x[5m])))`, `label_replace(x, "a", "b", "c", "d")`,
		`timestamp(x)`, `absent(x)`, `absent_over_time(x[5m])`, `vector(scalar(x)) + x`, `x or on() vector(0)`,
	} {
		for _, step := range []time.Duration{0, 17 * time.Second, 10 * time.Minute} {
			start, end := time.UnixMilli(1_000_123), time.UnixMilli(9_000_456)
			if step == 0 {
				end = start
			}
			var want, got recorder
			q := testQuery(t, e, &want, expr, start, end, step)
			p, err := compile(t, q)
			require.NoError(t, err, expr)
			_, err = p.Exec(t.Context(), &got)
			require.NoError(t, err, expr)
			require.NoError(t, q.Exec(t.Context()).Err)
			// Selectors may be opened in any order.
			slices.Sort(want.asked)
			slices.Sort(got.asked)
			require.Equal(t, want.asked, got.asked, expr)
			q.Close()
		}
	}
}
