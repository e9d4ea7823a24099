package eval

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"
)

// wideStorage has series that fall by a third of a second at each of their samples,
// one a second.
type wideStorage struct {
	series, samples int
	// read is called when all series have been read; it may be nil.
	read func()
}

func (s wideStorage) Select(context.Context, Selector) SeriesStream { return &wideStream{s, -1} }

type wideStream struct {
	wideStorage
	i int
}

func (s *wideStream) Next() bool {
	if s.i++; s.i == s.series && s.read != nil {
		s.read()
	}
	return s.i < s.series
}
func (s *wideStream) At() Series                        { return wideSeries(*s) }
func (s *wideStream) Err() error                        { return nil }
func (s *wideStream) Warnings() annotations.Annotations { return nil }
func (s *wideStream) Close() error                      { return nil }

type wideSeries wideStream

func (s wideSeries) Labels() labels.Labels {
	return labels.FromStrings("__name__", "x", "i", strconv.Itoa(s.i), "le", strconv.Itoa(s.i))
}
func (s wideSeries) Release() {}

func (s wideSeries) Decode(dst *Samples) error {
	dst.T, dst.V, dst.H = dst.T[:0], dst.V[:0], nil
	for t := range s.samples {
		dst.T, dst.V = append(dst.T, int64(t)*1000), append(dst.V, float64(s.samples-t)/3+float64(s.i*7919%1009))
	}
	return nil
}

// TestExec_EndsInTheMiddleOfLongWork cancels evaluations that take long for few series,
// of each kind whose work is in one piece: each takes many seconds when it is not
// cancelled.
func TestExec_EndsInTheMiddleOfLongWork(t *testing.T) {
	const most = time.Second
	one, many := wideStorage{series: 1, samples: 200_000}, wideStorage{series: 3000, samples: 11_000}
	for _, c := range []struct {
		expr string
		data wideStorage
	}{
		{"quantile_over_time(0.5, x[10h])", one},
		{"mad_over_time(x[10h])", one},
		{"predict_linear(x[10h], 60)", one},
		{"double_exponential_smoothing(x[10h], 0.5, 0.5)", one},
		{"sum_over_time(x[30h])", one},
		{"avg_over_time(x[30h])", one},
		{"stddev_over_time(x[30h])", one},
		{"rate(x[30h])", one},
		{"max_over_time(quantile_over_time(0.5, x[10h])[30h:10s])", one},
		{"quantile(0.5, x)", many},
		{"topk(2000, x)", many},
		{`count_values("v", x)`, many},
		{"histogram_quantile(0.5, x)", many},
		{"x * on(i) x", many},
		{"x or x", many},
		{`label_replace(label_replace(x, "a", "$1", "i", "(.*)1"), "b", "$1", "i", "(.*)2(.*)")`, many},
		{"-x", many},
	} {
		t.Run(c.expr, func(t *testing.T) {
			q := testQuery(t, testEngine(t), &recorder{}, c.expr, time.Unix(0, 0), time.Unix(200_000, 0), 20*time.Second)
			p, err := Compile(statement(t, q), Options{SubqueryInterval: testOptions().SubqueryInterval, Workers: 2})
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			var ended time.Time
			stop := time.AfterFunc(30*time.Millisecond, func() { ended = time.Now(); cancel() })
			defer stop.Stop()
			_, err = p.Exec(ctx, c.data)
			after := time.Since(ended)
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, ErrUnsupported)
			require.Less(t, after, most)
		})
	}
}

// TestExec_EndsAfterReading cancels when all series have been read. The work that is
// left is in one piece, and would succeed.
func TestExec_EndsAfterReading(t *testing.T) {
	for _, expr := range []string{
		"quantile(0.5, x)", "topk(100, x)", "histogram_quantile(0.5, x)", `count_values("v", x)`, "min(x) + 1",
	} {
		q := testQuery(t, testEngine(t), &recorder{}, expr, time.Unix(0, 0), time.Unix(10_000, 0), time.Second)
		p, err := Compile(statement(t, q), Options{SubqueryInterval: testOptions().SubqueryInterval, Workers: 2})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		_, err = p.Exec(ctx, wideStorage{series: 100, samples: 10_000, read: cancel})
		require.ErrorIs(t, err, context.Canceled, expr)
	}
}

// TestPacer_EndsAtTheNextLook counts the work after the end of the context.
func TestPacer_EndsAtTheNextLook(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := pacer{ctx: ctx}
	require.False(t, p.ended(10*paceWork))
	cancel()
	work := 0
	for !p.ended(100) {
		work += 100
	}
	require.Less(t, work, paceWork)
	require.ErrorIs(t, p.err, context.Canceled)
	require.True(t, p.ended(0), "it stays ended")
}

func TestSortPaced_EndsWithTheContext(t *testing.T) {
	list := make([]int, 300_000)
	for i := range list {
		list[i] = i * 7919 % len(list)
	}
	compares := 0
	require.NoError(t, sortPaced(t.Context(), slices.Clone(list), func(a, b int) int { compares++; return a - b }))
	require.Greater(t, compares, len(list))
	ctx, cancel := context.WithCancel(t.Context())
	compares = 0
	err := sortPaced(ctx, list, func(a, b int) int {
		if compares++; compares == 1000 {
			cancel()
		}
		return a - b
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, compares, 1000+paceWork)
}

// TestExec_PacesBetweenSeries counts the calls of Pace, and fails in one.
func TestExec_PacesBetweenSeries(t *testing.T) {
	for _, inline := range []int64{1, 1 << 40} {
		var paced atomic.Int64
		full := errors.New("too many wait")
		fail := int64(-1)
		o := Options{Workers: 3, inline: inline, Pace: func(context.Context) error {
			if paced.Add(1) == fail {
				return full
			}
			return nil
		}}
		p := countedProgram(t, "sum(rate(x[1m]))", o)
		s := &countedStorage{series: 1000}
		_, err := p.Exec(t.Context(), s)
		require.NoError(t, err)
		require.GreaterOrEqual(t, paced.Load(), int64(1000))
		paced.Store(0)
		fail = 700
		p = countedProgram(t, "sum(rate(x[1m]))", o)
		_, err = p.Exec(t.Context(), s)
		require.ErrorIs(t, err, full)
	}
}
