package mask

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/deletion"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
	"github.com/hindsight-io/hindsight/pkg/storeapi/tsdbstore"
)

func poller(t *testing.T, os ...deletion.Options) *deletion.Poller {
	t.Helper()
	b := bucket.NewMemory()
	for _, o := range os {
		o.Keep = time.Hour
		if o.MaxTime == 0 {
			o.MinTime, o.MaxTime = deletion.Earliest, deletion.Latest
		}
		c, err := deletion.New(o, time.Now())
		require.NoError(t, err)
		require.NoError(t, deletion.Put(t.Context(), b, c))
	}
	p := deletion.NewPoller(b, nil, nil)
	_, err := p.Poll(t.Context())
	require.NoError(t, err)
	return p
}

// TestStore_PassesTheSuite runs the suite with requests that apply to every answer and
// hide nothing: one on all labels that the suite removes as replica labels.
func TestStore_PassesTheSuite(t *testing.T) {
	p := poller(t, deletion.Options{Selectors: []string{`{none="such"}`, `{none="such",replica="x",pod!="y",b=~"z|"}`}})
	storetest.Run(t, func(t *testing.T, data storetest.Data) storeapi.Store {
		return New(storetest.NewFake(t, data), p, true)
	})
}

func TestStore_WithoutRequestsIsTheStoreBelow(t *testing.T) {
	data := storetest.Data{Series: []storetest.Series{{Labels: labels.FromStrings("__name__", "up"), Samples: storetest.Floats(0, 1000, 10)}}}
	r := &storeapi.Request{MaxTime: 1e6, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "up")}}
	s := New(storetest.NewFake(t, data), poller(t, deletion.Options{Selectors: []string{"down"}}), true)
	set := s.Select(t.Context(), r)
	_, masked := set.(*maskedSet)
	require.False(t, masked, "no request applies")
	require.NoError(t, set.Close())

	never := New(storetest.NewFake(t, data), deletion.NewPoller(bucket.NewMemory(), nil, nil), true)
	set = never.Select(t.Context(), r)
	require.False(t, set.Next())
	require.ErrorIs(t, set.Err(), errUnknown)
}

func openDB(t *testing.T, rnd *rand.Rand) *tsdb.DB {
	t.Helper()
	opts := tsdb.DefaultOptions()
	opts.NoLockfile = true
	db, err := tsdb.Open(t.TempDir(), nil, nil, opts, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	app := db.Appender(t.Context())
	for i := range 12 {
		l := labels.FromStrings("__name__", fmt.Sprint("m", i%3), "x", fmt.Sprint(i%4), "replica", fmt.Sprint(i%2))
		for k := range 400 {
			ts := int64(k)*15_000 + int64(i)
			if rnd.IntN(10) == 0 {
				continue
			}
			if i%3 == 2 {
				_, err = app.AppendHistogram(0, l, ts, tsdbutil.GenerateTestHistogram(int64(k)), nil)
			} else {
				_, err = app.Append(0, l, ts, float64(rnd.IntN(100)))
			}
			require.NoError(t, err)
		}
	}
	require.NoError(t, app.Commit())
	return db
}

// dump returns the samples of an answer in the time range, one line each, and the label
// sets.
func dump(t *testing.T, s storeapi.Store, r *storeapi.Request) (samples, series []string) {
	t.Helper()
	set := s.Select(t.Context(), r)
	for set.Next() {
		at := set.At()
		n := len(samples)
		it := aggr.SeriesIterator(at.Chunks, nil)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			if ts := it.AtT(); ts < r.MinTime || ts > r.MaxTime {
				continue
			}
			if typ == chunkenc.ValFloat {
				ts, v := it.At()
				samples = append(samples, fmt.Sprint(at.Labels, ts, v))
			} else {
				ts, h := it.AtFloatHistogram(nil)
				samples = append(samples, fmt.Sprint(at.Labels, ts, h.String()))
			}
		}
		require.NoError(t, it.Err())
		if r.SkipChunks || len(samples) > n {
			series = append(series, at.Labels.String())
		}
	}
	require.NoError(t, set.Err())
	require.NoError(t, set.Close())
	return samples, series
}

// TestStore_EqualsDeleteOfPrometheus compares random masked answers with those of a TSDB
// in which the same was deleted: samples, and label sets without chunks.
func TestStore_EqualsDeleteOfPrometheus(t *testing.T) {
	ext := labels.FromStrings("cluster", "eu", "receive_replica", "r1")
	cfg := tsdbstore.Config{External: func() labels.Labels { return ext }}
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		full := openDB(t, rand.New(rand.NewPCG(seed, 8)))
		cut := openDB(t, rand.New(rand.NewPCG(seed, 8)))
		var os []deletion.Options
		for range 1 + rnd.IntN(3) {
			selector := []string{
				`m0`, `{x="1"}`, `{__name__=~"m1|m2",replica!="0"}`, `{x!="2",cluster="eu"}`, `{replica="1",receive_replica="r1"}`, `{x=~".+",cluster="us"}`,
			}[rnd.IntN(6)]
			mint := rnd.Int64N(6_000_000)
			o := deletion.Options{Selectors: []string{selector}, MinTime: mint, MaxTime: mint + rnd.Int64N(6_000_000)}
			if seed%4 == 0 {
				o.MinTime, o.MaxTime = deletion.Earliest, deletion.Latest
			}
			os = append(os, o)
			c, err := deletion.New(o, time.Now())
			require.NoError(t, err)
			if rest, ok := storeapi.MatchExternal(ext, c.Matchers()[0]); ok {
				require.NoError(t, cut.Delete(t.Context(), c.MinTime, c.MaxTime, rest...))
			}
		}
		masked, oracle := New(tsdbstore.New(full, cfg), poller(t, os...), true), tsdbstore.New(cut, cfg)
		for range 6 {
			mint := rnd.Int64N(6_000_000)
			r := &storeapi.Request{MinTime: mint, MaxTime: mint + rnd.Int64N(2_000_000), Matchers: []*labels.Matcher{
				labels.MustNewMatcher(labels.MatchRegexp, "__name__", []string{"m.*", "m0", "m[12]"}[rnd.IntN(3)]),
			}}
			if rnd.IntN(2) == 0 {
				r.WithoutReplicaLabels = []string{"replica"}
			}
			if rnd.IntN(3) == 0 {
				r.SortWithout = []string{"x"}
			}
			want, series := dump(t, oracle, r)
			got, gotSeries := dump(t, masked, r)
			require.Equal(t, want, got, "seed %d", seed)
			require.Equal(t, series, gotSeries)

			// Label sets only: those that have samples in the range.
			names := *r
			names.SkipChunks = true
			_, named := dump(t, masked, &names)
			require.Subset(t, named, series, "seed %d", seed)
			_, before := dump(t, tsdbstore.New(full, cfg), r)
			for _, n := range named {
				require.False(t, slices.Contains(before, n) && !slices.Contains(series, n), "seed %d: %s has only hidden samples", seed, n)
			}
		}
	}
}

func TestStore_LimitCountsVisibleSeries(t *testing.T) {
	db := openDB(t, rand.New(rand.NewPCG(1, 1)))
	s := New(tsdbstore.New(db, tsdbstore.Config{}), poller(t, deletion.Options{Selectors: []string{"m0"}}), true)
	r := &storeapi.Request{MaxTime: math.MaxInt64, Limit: 3, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", "m0|m1")}}
	for _, skip := range []bool{false, true} {
		r.SkipChunks = skip
		_, series := dump(t, s, r)
		require.Len(t, series, 3)
		for _, l := range series {
			require.Contains(t, l, "m1")
		}
	}
}
