package query

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/query/eval"
	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/store"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

const (
	coverHour   = int64(3_600_000)
	coverBlocks = 3 // of two hours, for each replica
)

// coverData says how the replicas of a test are scraped.
type coverData struct {
	replicas int
	series   int
	jitter   int64
	oneGrid  bool
	// lost is how many scrapes in ten thousand fail, and stale says that they write stale
	// markers. outages are those of a block and replica, late the scrapes in ten
	// thousand that begin late.
	lost, late int
	stale      bool
	outages    int
	// histograms says that half of the series are histograms of all kinds, or change.
	histograms bool
}

// scrape writes one sample of a series.
func scrape(t testing.TB, app storage.Appender, kind int, lset labels.Labels, ts int64, n int64, rep int) {
	var err error
	v := float64(n*7) + float64(rep)/3
	switch kind {
	case 0: // a counter with resets
		_, err = app.Append(0, lset, ts, float64((n*7)%5000)+float64(rep))
	case 1: // a gauge
		_, err = app.Append(0, lset, ts, math.Sin(v))
	case 2: // a counter on another level in each replica
		_, err = app.Append(0, lset, ts, v+1e5*float64(rep))
	case 3:
		_, err = app.Append(0, lset, ts, 42)
	case 4:
		_, err = app.AppendHistogram(0, lset, ts, tsdbutil.GenerateTestHistogram(n), nil)
	case 5:
		_, err = app.AppendHistogram(0, lset, ts, nil, tsdbutil.GenerateTestFloatHistogram(n))
	case 6:
		_, err = app.AppendHistogram(0, lset, ts, tsdbutil.GenerateTestCustomBucketsHistogram(n), nil)
	default: // changes between floats and histograms
		if n/200%2 == 0 {
			_, err = app.Append(0, lset, ts, v)
		} else {
			_, err = app.AppendHistogram(0, lset, ts, tsdbutil.GenerateTestHistogram(n), nil)
		}
	}
	require.NoError(t, err)
}

// write makes the blocks of all replicas in a bucket.
func (d coverData) write(t testing.TB, rng *rand.Rand) *bucket.Memory {
	t.Helper()
	bkt := bucket.NewMemory()
	ctx := t.Context()
	for rep := range d.replicas {
		offset := rng.Int64N(15_000)
		if d.oneGrid {
			offset = 0
		}
		for b := range int64(coverBlocks) {
			if d.outages > 0 && rng.IntN(15) == 0 {
				continue // the block is not there
			}
			dir := t.TempDir()
			w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), dir, 8*coverHour)
			require.NoError(t, err)
			type span struct{ from, to int64 }
			var out []span
			for range d.outages {
				from := (2*b)*coverHour + rng.Int64N(2*coverHour)
				out = append(out, span{from, from + []int64{30_000, 300_000, 1_200_000}[rng.IntN(3)]})
			}
			for i := range d.series {
				if d.outages > 0 && rng.IntN(20) == 0 {
					continue // the series is not in the block
				}
				kind := i % 4
				if d.histograms {
					kind = i % 8
				}
				lset := labels.FromStrings("__name__", "m", "i", fmt.Sprintf("%03d", i), "kind", fmt.Sprint(kind))
				app := w.Appender(ctx)
				for ts := 2 * b * coverHour; ts < 2*(b+1)*coverHour; ts += 15_000 {
					at := ts + offset
					if d.jitter > 0 {
						at += rng.Int64N(2*d.jitter) - d.jitter
					}
					if d.late > 0 && rng.IntN(10_000) < d.late {
						at += 3_000 + rng.Int64N(10_000)
					}
					if at < 2*b*coverHour || at >= 2*(b+1)*coverHour {
						continue
					}
					down, first := false, false
					for _, o := range out {
						if at >= o.from && at < o.to {
							down, first = true, at-o.from < 15_000
						}
					}
					if lost := d.lost > 0 && rng.IntN(10_000) < d.lost; down || lost {
						if d.stale && (lost || first) {
							_, err := app.Append(0, lset, at, math.Float64frombits(value.StaleNaN))
							require.NoError(t, err)
						}
						continue
					}
					scrape(t, app, kind, lset, at, ts/15_000, rep)
				}
				require.NoError(t, app.Commit())
			}
			id, err := w.Flush(ctx)
			require.NoError(t, err)
			require.NoError(t, w.Close())
			path := filepath.Join(dir, id.String())
			meta, err := block.ReadMetaDir(path)
			require.NoError(t, err)
			meta.Thanos.Labels = map[string]string{"cluster": "c", "replica": string(rune('a' + rep))}
			require.NoError(t, block.WriteMetaDir(path, meta))
			_, err = block.Upload(ctx, bkt, path, block.UploadConfig{})
			require.NoError(t, err)
		}
	}
	return bkt
}

// coverGateway is a gateway over a bucket.
func coverGateway(t testing.TB, bkt bucket.Reader) (storeapi.Store, *prometheus.Registry) {
	t.Helper()
	var cfg store.Config
	app := kingpin.New("store", "")
	cfg.RegisterFlags(app)
	_, err := app.Parse([]string{"--data-dir=" + t.TempDir()})
	require.NoError(t, err)
	reg := prometheus.NewRegistry()
	g, err := store.New(cfg, store.Deps{Logger: slog.New(slog.DiscardHandler), Bucket: bkt, Registerer: reg})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	require.Eventually(t, func() bool { return g.Ready() == nil }, time.Minute, time.Millisecond)
	return g, reg
}

// exact decodes all series of a selector to text that tells all bits apart.
func exact(t testing.TB, q *Queryable, r *reading, hints storage.SelectHints) (out []string, err error) {
	t.Helper()
	st := q.streams().Select(withReading(t.Context(), r), sel("m", hints))
	defer func() { require.NoError(t, st.Close()) }()
	for st.Next() {
		var s eval.Samples
		at := st.At()
		if err := at.Decode(&s); err != nil {
			at.Release()
			return nil, err
		}
		text := at.Labels().String()
		for i := range s.T {
			var h *histogram.FloatHistogram
			if s.H != nil {
				h = s.H[i]
			}
			text += fmt.Sprintf(" %d:%x", s.T[i], math.Float64bits(s.V[i]))
			if h != nil {
				text += fmt.Sprintf("%v %x %d", h, math.Float64bits(h.Sum), h.CounterResetHint)
			}
		}
		at.Release()
		out = append(out, text)
	}
	return out, st.Err()
}

// covered is the number of chunks that a gateway has left out.
func covered(t testing.TB, reg *prometheus.Registry) float64 {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "hindsight_store_chunks_left_out_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatal("the gateway has no such metric")
	return 0
}

// A stream whose stores leave out chunks has the same samples, bit for bit, as one with
// all chunks, whatever holes the replicas have and wherever the query starts; few
// selections need a chunk that was left out, and none if every scrape is in time.
func TestCovered_SameSamplesAsWithAllChunks(t *testing.T) {
	for name, c := range map[string]struct {
		coverData
		// most is how many selections of a hundred may miss a chunk; least is how many chunks
		// a selection leaves out on average.
		most, least int
	}{
		"no holes":                {coverData{replicas: 2, series: 8, jitter: 20}, 0, 30},
		"three replicas":          {coverData{replicas: 3, series: 8, jitter: 20, outages: 1}, 0, 24},
		"one grid":                {coverData{replicas: 2, series: 8, oneGrid: true, outages: 1}, 0, 8},
		"an outage of each block": {coverData{replicas: 2, series: 8, jitter: 20, outages: 1}, 0, 8},
		"stale markers":           {coverData{replicas: 2, series: 8, jitter: 20, outages: 1, lost: 10, stale: true}, 0, 5},
		"lost scrapes":            {coverData{replicas: 3, series: 8, jitter: 500, outages: 2, lost: 20}, 5, 5},
		"late scrapes":            {coverData{replicas: 2, series: 8, jitter: 500, outages: 1, late: 20}, 5, 1},
		"histograms":              {coverData{replicas: 2, series: 8, jitter: 20, outages: 1, lost: 5, stale: true, histograms: true}, 5, 5},
	} {
		t.Run(name, func(t *testing.T) {
			const selections = 24
			rng := rand.New(rand.NewPCG(7, uint64(len(name))))
			gateway, reg := coverGateway(t, c.write(t, rng))
			stores := []storeapi.Store{gateway}
			all := fanout.New(func() []storeapi.Store { return stores }, fanout.Config{})
			missed := 0
			for range selections {
				q := NewQueryable(all, QueryableConfig{Defaults: queryopts.Options{Dedup: true, ReplicaLabels: []string{"replica"}}, MaxConcurrentSelects: 2})
				from := rng.Int64N(2*coverBlocks*coverHour) - coverHour
				hints := storage.SelectHints{
					Start: from, End: from + rng.Int64N(5*coverHour), Step: 60_000, Range: 300_000,
					Func: []string{"rate", "changes", "max_over_time", "increase"}[rng.IntN(4)],
				}
				whole := &reading{}
				whole.whole.Store(true)
				want, err := exact(t, q, whole, hints)
				require.NoError(t, err)
				r := &reading{}
				got, err := exact(t, q, r, hints)
				if r.whole.Load() {
					missed++
					continue
				}
				require.NoError(t, err)
				require.Equal(t, want, got, "%+v", hints)
			}
			require.LessOrEqual(t, missed*100, c.most*selections, "selections that missed a chunk")
			require.GreaterOrEqual(t, covered(t, reg), float64(c.least*selections), "chunks that were left out")
		})
	}
}

// A query that needs a chunk that was left out is evaluated again, and the next ones ask
// for all chunks: here another store has other chunks of the replica that the gateway
// leaves out, so that all samples of both have to be merged at a hole.
func TestCovered_RepeatsQueryThatNeedsChunk(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	gateway, reg := coverGateway(t, coverData{replicas: 2, series: 4, jitter: 20, outages: 1}.write(t, rng))
	first := storetest.NewFake(t, storetest.Data{
		External: labels.FromStrings("cluster", "c", "replica", "b"),
		Series:   []storetest.Series{{Labels: labels.FromStrings("__name__", "m", "i", "000", "kind", "0"), Samples: storetest.Floats(1000, 60_000, 300)}},
	})
	first.About.SupportsSortWithout, first.About.Component = true, "store"
	stores := []storeapi.Store{first, gateway}
	all := fanout.New(func() []storeapi.Store { return stores }, fanout.Config{})
	e := testEngine(t)
	p := queryopts.Options{Dedup: true, ReplicaLabels: []string{"replica"}}
	q := NewQueryable(all, QueryableConfig{Defaults: p, MaxConcurrentSelects: 2})
	ask := func(q *Queryable) string {
		one, err := e.NewRangeQuery(t.Context(), q, nil, `rate(m[2m])`, time.UnixMilli(0), time.UnixMilli(6*coverHour), time.Minute)
		require.NoError(t, err)
		defer one.Close()
		res := one.Exec(queryopts.NewContext(t.Context(), p))
		require.NoError(t, res.Err)
		m, ok := res.Value.(promql.Matrix)
		require.True(t, ok)
		return m.String()
	}
	q.covering.pausedUntil.Store(math.MaxInt64)
	want := ask(q)
	require.Zero(t, covered(t, reg))
	q.covering.pausedUntil.Store(0)
	require.Equal(t, want, ask(q))
	left := covered(t, reg)
	require.Positive(t, left)
	require.Equal(t, 1.0, testutil.ToFloat64(e.repeats))
	require.Equal(t, want, ask(q))
	require.Equal(t, left, covered(t, reg))
}
