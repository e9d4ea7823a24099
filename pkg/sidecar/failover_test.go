package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/sidecar/outage"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom/promtest"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// withOutage makes the store read all of dir while the server does not answer.
func withOutage(t testing.TB, st *promStore, dir string, h outage.HeadConverter, wait time.Duration) *outage.Reader {
	t.Helper()
	r := outage.New(outage.Config{Path: dir, Temp: filepath.Join(dir, "thanos", "outage"), Wait: wait, Retry: time.Hour},
		h, slog.New(slog.DiscardHandler), outage.NewMetrics(nil))
	st.outage = r
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return r
}

// values reads an answer as label set -> samples as text, histograms included.
func values(t testing.TB, set storeapi.SeriesSet, r *storeapi.Request) map[string]string {
	t.Helper()
	chunks := map[string][]storeapi.Chunk{}
	last := labels.EmptyLabels()
	for set.Next() {
		at := set.At()
		require.LessOrEqual(t, labels.Compare(last, at.Labels), 0, "the answer is in order")
		last = at.Labels
		chunks[at.Labels.String()] = append(chunks[at.Labels.String()], at.Chunks...)
	}
	require.NoError(t, set.Err())
	require.Empty(t, set.Warnings())
	out := map[string]string{}
	for lset, cs := range chunks {
		var text strings.Builder
		for _, s := range storetest.Decode(t, cs, r.MinTime, r.MaxTime) {
			switch {
			case s.H != nil:
				fmt.Fprintln(&text, s.T, s.H)
			case s.FH != nil:
				fmt.Fprintln(&text, s.T, s.FH)
			default:
				fmt.Fprintln(&text, s.T, s.V)
			}
		}
		if text.Len() > 0 {
			out[lset] = text.String()
		}
	}
	require.NoError(t, set.Close())
	return out
}

const minute = int64(60_000)

// history writes random samples: floats, histograms of both kinds, and some that come
// out of order, of series that come and go.
type history struct {
	rnd *rand.Rand
	now int64
}

func (h *history) write(t testing.TB, s *promtest.Server, minutes int64) {
	t.Helper()
	for end := h.now + minutes*minute; h.now < end; h.now += minute {
		s.Write(t, func(app storage.Appender) error {
			for i := range 6 {
				if h.rnd.IntN(10) == 0 {
					continue // a scrape failed
				}
				at := h.now + int64(i)
				if h.rnd.IntN(8) == 0 {
					at -= h.rnd.Int64N(85 * minute)
				}
				lset := labels.FromStrings("__name__", "m", "i", fmt.Sprint(i), "round", fmt.Sprint(h.now/(200*minute)))
				var err error
				switch i {
				case 4:
					_, err = app.AppendHistogram(0, lset, at, tsdbutil.GenerateTestHistogram(h.now/minute), nil)
				case 5:
					_, err = app.AppendHistogram(0, lset, at, nil, tsdbutil.GenerateTestFloatHistogram(h.now/minute))
				default:
					_, err = app.Append(0, lset, at, h.rnd.Float64())
				}
				if err != nil && !isLate(err) {
					return err
				}
			}
			return nil
		})
	}
}

func isLate(err error) bool {
	for _, late := range []error{storage.ErrOutOfOrderSample, storage.ErrTooOldSample, storage.ErrOutOfBounds, storage.ErrDuplicateSampleForTimestamp} {
		if err.Error() == late.Error() {
			return true
		}
	}
	return false
}

func (h *history) request() *storeapi.Request {
	r := forever(eq("__name__", "m"))
	if h.rnd.IntN(4) > 0 {
		r.MinTime = h.rnd.Int64N(h.now+minute) - minute
		r.MaxTime = r.MinTime + h.rnd.Int64N(h.now)
	}
	if h.rnd.IntN(2) == 0 {
		r.Matchers = append(r.Matchers, labels.MustNewMatcher(labels.MatchRegexp, "i", "1|3|4|5"))
	}
	return r
}

// The answer from blocks and Prometheus, and that from the data directory alone while
// Prometheus does not answer, are equal to that of Prometheus alone, sample by sample,
// whatever was cut, compacted or listed before.
func TestStitch_EqualsPrometheus(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := &history{rnd: rand.New(rand.NewPCG(seed, 1))}
			s := promtest.New(t, promtest.Options{
				ExternalLabels: labels.FromStrings("cluster", "eu", "replica", "a"),
				BlockDuration:  100 * minute, OutOfOrderWindow: 90 * minute,
			})
			alone, st := newStore(t, s), newStore(t, s)
			d := withDisk(t, st, s.Dir)
			reader := withOutage(t, st, s.Dir, headConverter{}, time.Minute)
			direct, late := 0, 0
			h.write(t, s, 300)
			require.NoError(t, s.DB.Compact(t.Context()))
			require.True(t, d.refresh(t.Context()))
			for range 4 {
				h.write(t, s, 20+h.rnd.Int64N(100))
				if h.rnd.IntN(2) == 0 {
					require.NoError(t, s.DB.Compact(t.Context()))
				}
				if h.rnd.IntN(3) > 0 {
					require.True(t, d.refresh(t.Context()))
				}
				h.write(t, s, 5)
				var requests []*storeapi.Request
				var want []map[string]string
				for range 5 {
					r := h.request()
					requests = append(requests, r)
					want = append(want, values(t, alone.Select(t.Context(), r), r))
					require.Equal(t, want[len(want)-1], values(t, st.Select(t.Context(), r), r))
				}
				names, _, err := alone.LabelNames(t.Context(), forever(eq("i", "1")))
				require.NoError(t, err)
				rounds, _, err := alone.LabelValues(t.Context(), "round", forever(eq("i", "1")))
				require.NoError(t, err)

				if v := d.dir.Acquire(); v != nil {
					direct++
					v.Release()
				}
				if segments, err := segmentSizes(filepath.Join(s.Dir, "wbl")); err == nil && len(segments) > 0 {
					late++
				}

				s.SetDown(true)
				for i, r := range requests {
					require.Equal(t, want[i], values(t, st.Select(t.Context(), r), r))
				}
				got, ws, err := st.LabelNames(t.Context(), forever(eq("i", "1")))
				require.NoError(t, err)
				require.Empty(t, ws)
				require.Equal(t, names, got)
				got, ws, err = st.LabelValues(t.Context(), "round", forever(eq("i", "1")))
				require.NoError(t, err)
				require.Empty(t, ws)
				require.Equal(t, rounds, got)
				s.SetDown(false)
				if h.rnd.IntN(2) == 0 {
					reader.Answering()
				}
				require.Equal(t, want[0], values(t, st.Select(t.Context(), requests[0]), requests[0]))
			}
			require.Positive(t, direct, "blocks were read directly")
			require.Positive(t, late, "out-of-order samples were in the head")
		})
	}
}

// stuck is a conversion that never ends, or fails.
type stuck struct {
	begun chan struct{}
	err   error
}

func (s stuck) Convert(ctx context.Context, _, _ string) (string, error) {
	close(s.begun)
	if s.err != nil {
		return "", s.err
	}
	<-ctx.Done()
	return "", ctx.Err()
}

// zeros writes a sample of each series every minute.
func zeros(t *testing.T, s *promtest.Server, series int, minutes int64) {
	t.Helper()
	s.Write(t, func(app storage.Appender) error {
		for at := int64(0); at < minutes*minute; at += minute {
			for i := range series {
				if _, err := app.Append(0, labels.FromStrings("__name__", "m", "i", fmt.Sprintf("%02d", i)), at, 0); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// outageServer has four hours of samples, the first ones in blocks.
func outageServer(t *testing.T) (*promtest.Server, int64) {
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu"), BlockDuration: 60 * minute})
	zeros(t, s, 3, 240)
	require.NoError(t, s.DB.Compact(t.Context()))
	blocks := s.DB.Blocks()
	return s, blocks[len(blocks)-1].Meta().MaxTime
}

// A part that cannot be had is named, in each kind of answer; what is in blocks is
// returned.
func TestOutage_NamesMissingHead(t *testing.T) {
	for name, h := range map[string]stuck{"still": {begun: make(chan struct{})}, "bad segment": {begun: make(chan struct{}), err: errors.New("bad segment")}} {
		t.Run(name, func(t *testing.T) {
			s, end := outageServer(t)
			st := newStore(t, s)
			withDisk(t, st, s.Dir)
			withOutage(t, st, s.Dir, h, time.Millisecond)
			s.SetDown(true)

			// Blocks alone answer for old times.
			old := forever(eq("__name__", "m"))
			old.MaxTime = end - 1
			require.Len(t, values(t, st.Select(t.Context(), old), old), 3)

			r := forever(eq("__name__", "m"))
			_, _, _ = st.LabelNames(t.Context(), r) // begins the conversion
			<-h.begun
			require.Eventually(t, func() bool {
				set := st.Select(t.Context(), r)
				got := list(t, set)
				ws := set.Warnings().Strings()
				return len(got) == 3 && len(ws) == 1 && strings.Contains(ws[0], time.UnixMilli(end).UTC().Format(time.RFC3339)) && strings.Contains(ws[0], name)
			}, 10*time.Second, 10*time.Millisecond)
			names, ws, err := st.LabelNames(t.Context(), r)
			require.NoError(t, err)
			require.Equal(t, []string{"__name__", "cluster", "i"}, names)
			require.Len(t, ws, 1)
			require.False(t, ws[0].LacksNothing())
			_, ws, err = st.LabelValues(t.Context(), "i", r)
			require.NoError(t, err)
			require.Len(t, ws, 1)
		})
	}
}

// cutting ends the n-th remote read in the middle of a frame.
type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(b []byte) (int, error) {
	if len(b) > c.left {
		_, _ = c.ResponseWriter.Write(b[:c.left])
		c.Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(b)
	return c.ResponseWriter.Write(b)
}

func (c *cutting) Flush() { c.ResponseWriter.(http.Flusher).Flush() }

// Prometheus stops in the middle of its answer: the rest comes from its data directory.
func TestOutage_GoesOnInTheMiddle(t *testing.T) {
	var s *promtest.Server
	left := math.MaxInt
	s = promtest.New(t, promtest.Options{
		ExternalLabels: labels.FromStrings("cluster", "eu"), MaxBytesInFrame: 500,
		Wrap: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/api/v1/read" && left < math.MaxInt {
					defer s.SetDown(true)
					w = &cutting{w, left}
				}
				next.ServeHTTP(w, r)
			})
		},
	})
	zeros(t, s, 20, 300)
	st := newStore(t, s)
	withOutage(t, st, s.Dir, headConverter{}, time.Minute)
	r := forever(eq("__name__", "m"))
	want := values(t, st.Select(t.Context(), r), r)
	require.Len(t, want, 20)
	for _, left = range []int{0, 10, 600, 1000, 1900, 2500} {
		s.SetDown(false)
		require.Equal(t, want, values(t, st.Select(t.Context(), r), r), "cut after %d bytes", left)
	}
}

// An error of a Prometheus that runs is no outage.
func TestOutage_KeepsErrorsOfPrometheus(t *testing.T) {
	s := promtest.New(t, promtest.Options{
		ExternalLabels: labels.FromStrings("cluster", "eu"),
		Wrap: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/api/v1/read" {
					http.Error(w, "overloaded", http.StatusServiceUnavailable)
					return
				}
				next.ServeHTTP(w, r)
			})
		},
	})
	st := newStore(t, s)
	withOutage(t, st, s.Dir, headConverter{}, time.Minute)
	set := st.Select(t.Context(), forever(eq("__name__", "m")))
	require.False(t, set.Next())
	require.ErrorContains(t, set.Err(), "overloaded")
	require.NoError(t, set.Close())
}

// A sidecar that starts while Prometheus is down answers with the external labels that
// Prometheus had; it is ready as long as the data directory is there.
func TestOutage_StartsWithLastLabels(t *testing.T) {
	s, _ := outageServer(t)
	dir := filepath.Join(s.Dir, "thanos", "outage")
	st := newStore(t, s)
	st.source.last = newLastLabels(s.Dir, dir)
	require.NoError(t, st.source.check(t.Context()))
	require.NoError(t, os.Remove(filepath.Join(dir, "external-labels.json")))
	require.NoError(t, st.source.check(t.Context()))
	require.NoFileExists(t, filepath.Join(dir, "external-labels.json"), "unchanged labels are not written again")
	st.source.last = newLastLabels(s.Dir, dir)
	require.NoError(t, st.source.check(t.Context()))
	r := forever(eq("__name__", "m"))
	want := values(t, st.Select(t.Context(), r), r)
	require.Len(t, want, 3)

	s.SetDown(true)
	again := newSource(st.source.client, time.Minute, slog.New(slog.DiscardHandler), newMetrics(nil))
	next := &promStore{source: again, metrics: again.metrics, minTime: st.minTime}
	again.last = st.source.last
	withOutage(t, next, s.Dir, headConverter{}, time.Minute)
	require.Error(t, next.ready(), "not asked yet")
	require.Error(t, again.check(t.Context()))
	require.NoError(t, next.ready())
	require.Equal(t, []labels.Labels{labels.FromStrings("cluster", "eu")}, next.Info().LabelSets)
	require.Equal(t, want, values(t, next.Select(t.Context(), r), r))

	require.NoError(t, os.Rename(s.Dir, s.Dir+"-gone"))
	require.Error(t, next.ready())
	set := next.Select(t.Context(), r)
	require.False(t, set.Next())
	require.ErrorIs(t, set.Err(), storeapi.ErrUnavailable)
	require.ErrorContains(t, set.Err(), "data directory")
	require.NoError(t, set.Close())
	require.NoError(t, os.Rename(s.Dir+"-gone", s.Dir))
}
