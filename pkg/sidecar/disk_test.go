package sidecar

import (
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom/promtest"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// withDisk makes the store read blocks of dir directly.
func withDisk(t testing.TB, st *promStore, dir string) *disk {
	t.Helper()
	d := newDisk(st.source.client, dir, slog.New(slog.DiscardHandler), newMetrics(nil))
	d.refresh(t.Context())
	st.blocks = d.dir
	t.Cleanup(d.dir.Close)
	return d
}

// The data is half in blocks on disk and half in the head.
func TestAcceptanceDirect(t *testing.T) {
	newStore := func(t *testing.T, data storetest.Data) storeapi.Store {
		s := serve(t, data)
		persistHalf(t, s)
		st := newStore(t, s)
		withDisk(t, st, s.Dir)
		return st
	}
	storetest.Run(t, newStore)
}

// persistHalf writes the older half of the head into a block.
func persistHalf(t testing.TB, s *promtest.Server) {
	t.Helper()
	head := s.DB.Head()
	if head.NumSeries() == 0 || head.MinTime() >= head.MaxTime() {
		return
	}
	s.CutBlock(t, head.MinTime(), head.MinTime()+(head.MaxTime()-head.MinTime())/2+1)
}

// samples reads an answer as label set -> samples as text.
func samples(t testing.TB, set storeapi.SeriesSet, mint, maxt int64) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	chunks := map[string][]storeapi.Chunk{}
	for set.Next() {
		at := set.At()
		chunks[at.Labels.String()] = append(chunks[at.Labels.String()], at.Chunks...)
	}
	require.NoError(t, set.Err())
	for lset, cs := range chunks {
		for _, s := range storetest.Decode(t, cs, mint, maxt) {
			out[lset] = append(out[lset], fmt.Sprint(s.T, " ", s.V))
		}
	}
	require.NoError(t, set.Close())
	return out
}

// Direct reads return the same answer as Prometheus alone for random ranges, while
// Prometheus cuts, compacts and deletes blocks.
func TestDirect_EqualsRemote(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu", "replica", "a"), BlockDuration: 1000})
	st := newStore(t, s)
	direct := newStore(t, s)
	d := withDisk(t, direct, s.Dir)
	now := int64(0)
	for round := range 12 {
		s.Write(t, func(app storage.Appender) error {
			for end := now + 900; now < end; now += 50 {
				for i := range 5 {
					lset := labels.FromStrings("__name__", "m", "i", fmt.Sprint(i), "round", fmt.Sprint(round/4))
					if _, err := app.Append(0, lset, now, rnd.Float64()); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if round%2 == 0 {
			require.NoError(t, s.DB.Compact(t.Context()))
		}
		if round%3 == 0 {
			d.refresh(t.Context())
		}
		if round == 7 {
			require.NoError(t, s.DB.Delete(t.Context(), 100, 700, labels.MustNewMatcher(labels.MatchEqual, "i", "3")))
			d.refresh(t.Context())
		}
		for range 10 {
			r := forever(eq("__name__", "m"))
			r.MinTime = rnd.Int64N(now + 100)
			r.MaxTime = r.MinTime + rnd.Int64N(now+100)
			if rnd.IntN(2) == 0 {
				r.Matchers = append(r.Matchers, labels.MustNewMatcher(labels.MatchRegexp, "i", "1|3"))
			}
			want := samples(t, st.Select(t.Context(), r), r.MinTime, r.MaxTime)
			require.Equal(t, want, samples(t, direct.Select(t.Context(), r), r.MinTime, r.MaxTime))
		}
		r := forever()
		wantNames, _, err := st.LabelNames(t.Context(), r)
		require.NoError(t, err)
		names, _, err := direct.LabelNames(t.Context(), r)
		require.NoError(t, err)
		require.Equal(t, wantNames, names)
		wantValues, _, err := st.LabelValues(t.Context(), "round", r)
		require.NoError(t, err)
		values, _, err := direct.LabelValues(t.Context(), "round", r)
		require.NoError(t, err)
		require.Equal(t, wantValues, values)
		ext, _, err := direct.LabelValues(t.Context(), "replica", forever(eq("__name__", "m")))
		require.NoError(t, err)
		require.Equal(t, []string{"a"}, ext)
	}
	require.Greater(t, d.dir.Acquire().End(), int64(5000), "most was read from disk")

	// Old data is answered without asking Prometheus.
	before := s.Reads()
	r := forever(eq("__name__", "m"))
	r.MaxTime = 3000
	require.NotEmpty(t, samples(t, direct.Select(t.Context(), r), 0, 3000))
	require.Equal(t, before, s.Reads())
}

// A reader reads on when its blocks are deleted.
func TestDirect_SurvivesDeletion(t *testing.T) {
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu"), BlockDuration: 1000})
	s.Write(t, func(app storage.Appender) error {
		for now := int64(0); now < 6000; now += 100 {
			for i := range 200 {
				if _, err := app.Append(0, labels.FromStrings("__name__", "m", "i", fmt.Sprint(i)), now, 1); err != nil {
					return err
				}
			}
		}
		return nil
	})
	require.NoError(t, s.DB.Compact(t.Context()))
	st := newStore(t, s)
	d := withDisk(t, st, s.Dir)
	r := forever(eq("__name__", "m"))
	r.MaxTime = 2000
	want := samples(t, st.Select(t.Context(), r), 0, 2000)
	require.Len(t, want, 200)

	set := st.Select(t.Context(), r)
	require.True(t, set.Next())
	blocks := s.DB.Blocks()
	for _, b := range blocks {
		require.NoError(t, os.RemoveAll(b.Dir()))
	}
	d.refresh(t.Context()) // Prometheus still lists them, but they cannot be opened again
	d.dir.Close()
	n := 1
	for set.Next() {
		require.NotEmpty(t, storetest.Decode(t, set.At().Chunks, 0, 2000))
		n++
	}
	require.NoError(t, set.Err())
	require.Equal(t, 200, n)
	require.NoError(t, set.Close())
}

// Prometheus answers for the time of a block that cannot be opened.
func TestDirect_SkipsDamagedBlock(t *testing.T) {
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu"), BlockDuration: 1000})
	s.Append(t, labels.FromStrings("__name__", "m"), 0, 100, make([]float64, 60)...)
	require.NoError(t, s.DB.Compact(t.Context()))
	blocks := s.DB.Blocks()
	require.Greater(t, len(blocks), 2)
	require.NoError(t, os.Rename(filepath.Join(blocks[1].Dir(), "index"), filepath.Join(t.TempDir(), "index")))
	st := newStore(t, s)
	d := withDisk(t, st, s.Dir)
	view := d.dir.Acquire()
	require.Equal(t, blocks[1].Meta().MinTime, view.End())
	view.Release()
	got := samples(t, st.Select(t.Context(), forever(eq("__name__", "m"))), 0, math.MaxInt64)
	require.Len(t, got[`{__name__="m", cluster="eu"}`], 60)
}

func TestReadable_EndsBeforeHead(t *testing.T) {
	blocks := []prom.Block{{MinTime: 0, MaxTime: 10}, {MinTime: 10, MaxTime: 20}, {MinTime: 20, MaxTime: 30}}
	check := func(headMin, wantEnd int64, n int) {
		t.Helper()
		got, end := readable(blocks, headMin)
		require.Equal(t, wantEnd, end)
		require.Len(t, got, n)
	}
	check(30, 30, 3)
	check(35, 30, 3)            // a gap may still be filled
	check(15, 15, 2)            // a block was put there by hand
	check(math.MaxInt64, 30, 3) // an empty head
	got, end := readable(nil, 5)
	require.Empty(t, got)
	require.Equal(t, int64(math.MinInt64), end)
}

// A proxy serves the API only, or the server is old.
func TestDirect_StopsWithoutListOfBlocks(t *testing.T) {
	for _, hide := range []string{"/metrics", "/api/v1/status/tsdb/blocks"} {
		s := promtest.New(t, promtest.Options{
			ExternalLabels: labels.FromStrings("cluster", "eu"), BlockDuration: 1000,
			Wrap: func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == hide {
						http.NotFound(w, r)
						return
					}
					next.ServeHTTP(w, r)
				})
			},
		})
		s.Append(t, labels.FromStrings("__name__", "m"), 0, 100, make([]float64, 60)...)
		require.NoError(t, s.DB.Compact(t.Context()))
		st := newStore(t, s)
		d := withDisk(t, st, s.Dir)
		require.Nil(t, d.dir.Acquire())
		require.Len(t, samples(t, st.Select(t.Context(), forever(eq("__name__", "m"))), 0, math.MaxInt64)[`{__name__="m", cluster="eu"}`], 60)
	}
}

func TestDirect_ReadsDuringUpdates(t *testing.T) {
	s := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu"), BlockDuration: 1000})
	s.Append(t, labels.FromStrings("__name__", "m"), 0, 100, make([]float64, 60)...)
	require.NoError(t, s.DB.Compact(t.Context()))
	st := newStore(t, s)
	d := withDisk(t, st, s.Dir)
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := 0
				set := st.Select(t.Context(), forever(eq("__name__", "m")))
				for set.Next() {
					n += len(storetest.Decode(t, slices.Clone(set.At().Chunks), 0, math.MaxInt64))
				}
				if err := set.Err(); err != nil || n != 60 {
					t.Errorf("read %d samples, error %v", n, err)
					return
				}
				if err := set.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 50 {
		if i%2 == 0 {
			d.dir.Close()
		}
		d.refresh(t.Context())
	}
	close(stop)
	readers.Wait()
}
