package eval

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"
)

// countedStorage is a storage with the same series over and over. It counts what is
// open.
type countedStorage struct {
	series  int
	open    atomic.Int64
	decoded atomic.Int64
	// at is called before each series.
	at func(ctx context.Context, i int) error
	// decode, if not nil, is called when a series is decoded.
	decode func()
}

func (s *countedStorage) Select(ctx context.Context, _ Selector) SeriesStream {
	s.open.Add(1)
	return &countedStream{s: s, ctx: ctx, i: -1}
}

type countedStream struct {
	s   *countedStorage
	ctx context.Context
	i   int
	err error
}

func (s *countedStream) Next() bool {
	s.i++
	if s.i >= s.s.series {
		return false
	}
	if s.s.at != nil {
		s.err = s.s.at(s.ctx, s.i)
	}
	return s.err == nil
}

func (s *countedStream) At() Series                        { s.s.open.Add(1); return &countedSeries{s: s.s, i: s.i} }
func (s *countedStream) Err() error                        { return s.err }
func (s *countedStream) Warnings() annotations.Annotations { return nil }
func (s *countedStream) Close() error                      { s.s.open.Add(-1); return nil }

type countedSeries struct {
	s *countedStorage
	i int
}

func (s *countedSeries) Labels() labels.Labels {
	return labels.FromStrings("__name__", "x", "n", string(rune('a'+s.i%26)), "i", string(rune(0x4e00+s.i)))
}
func (s *countedSeries) Release() { s.s.open.Add(-1) }

func (s *countedSeries) Decode(dst *Samples) error {
	s.s.decoded.Add(1)
	if s.s.decode != nil {
		s.s.decode()
	}
	dst.T, dst.V, dst.H = dst.T[:0], dst.V[:0], nil
	for t := range int64(100) {
		dst.T, dst.V = append(dst.T, t*15_000), append(dst.V, float64(s.i)+0.1*float64(t))
	}
	return nil
}

func countedProgram(tb testing.TB, expr string, o Options) *Program {
	q := testQuery(tb, testEngine(tb), &recorder{}, expr, time.Unix(0, 0), time.Unix(1500, 0), 15*time.Second)
	o.SubqueryInterval = testOptions().SubqueryInterval
	p, err := Compile(statement(tb, q), o)
	require.NoError(tb, err)
	return p
}

func TestExec_SameForAnyNumberOfWorkers(t *testing.T) {
	const expr = "sum by (n)(rate(x[1m])) / on(n) avg by (n)(x)"
	var first []string
	for _, workers := range []int{1, 2, 5} {
		s := &countedStorage{series: 500}
		res, err := countedProgram(t, expr, Options{Workers: workers, inline: 1}).Exec(t.Context(), s)
		require.NoError(t, err)
		lines := render(res.Value, false)
		require.Len(t, lines, 26)
		if first == nil {
			first = lines
		}
		require.Equal(t, first, lines)
		require.EqualValues(t, 1000, s.decoded.Load())
		require.Zero(t, s.open.Load())
	}
}

func TestExec_EndsEverythingOnError(t *testing.T) {
	failure := errors.New("store is gone")
	for _, inline := range []int64{1, 1 << 40} {
		synctest.Test(t, func(t *testing.T) {
			s := &countedStorage{series: 2000, at: func(_ context.Context, i int) error {
				if i == 700 {
					return failure
				}
				return nil
			}}
			_, err := countedProgram(t, "sum(rate(x[1m]))", Options{Workers: 3, inline: inline}).Exec(context.Background(), s)
			require.ErrorIs(t, err, failure)
			require.NotErrorIs(t, err, ErrUnsupported)
		})
	}
}

// A stream that hangs ends with the context, and so do all goroutines: the bubble
// fails the test otherwise.
func TestExec_EndsOnCancel(t *testing.T) {
	for _, hang := range []int{0, 3, 800} {
		synctest.Test(t, func(t *testing.T) {
			s := &countedStorage{series: 2000, at: func(ctx context.Context, i int) error {
				if i < hang {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			}}
			p := countedProgram(t, "sum(rate(x[1m])) + sum(x)", Options{Workers: 3, inline: 1})
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			begin := time.Now()
			_, err := p.Exec(ctx, s)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Less(t, time.Since(begin), 61*time.Second)
		})
	}
}

func TestExec_GivesMemoryBack(t *testing.T) {
	var taken, most atomic.Int64
	full := errors.New("memory is full")
	var bound int64 = 1 << 40
	o := Options{Workers: 3, inline: 1, Give: func(n int64) { taken.Add(-n) }, Take: func(_ context.Context, n int64) error {
		v := taken.Add(n)
		if v > bound {
			taken.Add(-n)
			return full
		}
		most.Store(max(v, most.Load()))
		return nil
	}}
	p := countedProgram(t, "rate(x[1m])", o)
	res, err := p.Exec(t.Context(), &countedStorage{series: 3000})
	require.NoError(t, err)
	require.Equal(t, res.Held, taken.Load())
	require.Greater(t, res.Held, int64(3000*90*16))
	o.Give(res.Held)
	require.Zero(t, taken.Load())

	// An aggregation holds its groups and the rows in flight, not its series.
	most.Store(0)
	p = countedProgram(t, "sum(rate(x[1m]))", o)
	res, err = p.Exec(t.Context(), &countedStorage{series: 3000})
	require.NoError(t, err)
	require.Less(t, most.Load(), int64(2<<20))
	o.Give(res.Held)
	require.Zero(t, taken.Load())

	bound = 1 << 20
	_, err = countedProgram(t, "rate(x[1m])", o).Exec(t.Context(), &countedStorage{series: 3000})
	require.ErrorIs(t, err, full)
	require.Zero(t, taken.Load())
}

func TestExec_DoesNotChangeTheStatement(t *testing.T) {
	q := testQuery(t, testEngine(t), &recorder{}, "sum by (b, a)(rate(x[5m] @ 100 offset 1m)) + max_over_time(y[5m:1m])", time.Unix(0, 0), time.Unix(1500, 0), time.Minute)
	stmt := statement(t, q)
	before := stmt.String()
	p, err := Compile(stmt, testOptions())
	require.NoError(t, err)
	_, err = p.Exec(t.Context(), &countedStorage{series: 3})
	require.NoError(t, err)
	require.Equal(t, before, stmt.String())
}

// panickingStorage panics at its second Select, when the stream of the first one is open.
type panickingStorage struct {
	countedStorage
	selects atomic.Int64
}

func (s *panickingStorage) Select(ctx context.Context, sel Selector) SeriesStream {
	if s.selects.Add(1) == 2 {
		panic("second selector")
	}
	return s.countedStorage.Select(ctx, sel)
}

// The store gives memory back when streams are closed.
func TestExec_ClosesStreamsAfterPanic(t *testing.T) {
	for _, expr := range []string{"sum(x) + sum(y)", "max_over_time(rate(x[1m])[10m:1m]) and y", "sum(x) + scalar(y)"} {
		s := &panickingStorage{countedStorage: countedStorage{series: 5}}
		_, err := countedProgram(t, expr, Options{Workers: 2, inline: 1}).Exec(t.Context(), s)
		require.ErrorIs(t, err, ErrUnsupported, "%s is left to Prometheus's engine", expr)
		require.Zero(t, s.open.Load(), expr)
	}
}
