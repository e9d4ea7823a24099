package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blockcolumns"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// objectBlock makes a block of metrics of which all but one have floats only: counters,
// floats without end, stale markers, NaN, and constants.
func objectBlock(t testing.TB, rng *rand.Rand, mint int64, ext map[string]string) testBlock {
	t.Helper()
	var series []blocktest.Series
	for i := range 300 {
		b := labels.NewBuilder(labels.FromStrings("__name__", []string{"up", "requests_total", "cpu_seconds_total", "mixed"}[rng.IntN(4)], "n", fmt.Sprint(i)))
		for _, l := range []struct {
			name   string
			values []string
		}{
			{"job", []string{"api", "node"}}, {"instance", []string{"a:1", "a:10", "b:1", ""}}, {"mode", []string{"idle", "user", "ünï", ""}},
			{"cpu", []string{"0", "1", "10"}}, {"A", []string{"upper", "", ""}}, {"replica", []string{"x", "", "", "", "", ""}},
		} {
			b.Set(l.name, l.values[rng.IntN(len(l.values))])
		}
		series = append(series, blocktest.Series{Labels: b.Labels(), Chunks: objectChunks(t, rng, mint, b.Get("__name__") == "mixed" && i%5 == 0)})
	}
	slices.SortFunc(series, func(a, b blocktest.Series) int { return labels.Compare(a.Labels, b.Labels) })
	dir := t.TempDir()
	m := &block.Meta{BlockMeta: tsdb.BlockMeta{ULID: ulid.MustNew(uint64(mint+1), rngReader{rng}), MinTime: mint, MaxTime: mint + 2*hour}}
	m.Thanos.Labels = ext
	require.NoError(t, blocktest.Write(t.Context(), filepath.Join(dir, m.ULID.String()), m, series))
	return openTestBlock(t, filepath.Join(dir, m.ULID.String()), m.ULID, ext)
}

type rngReader struct{ rng *rand.Rand }

func (r rngReader) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(r.rng.Uint32())
	}
	return len(b), nil
}

// objectChunks makes the chunks of a series.
func objectChunks(t testing.TB, rng *rand.Rand, mint int64, histogram bool) []chunks.Meta {
	if histogram {
		c := chunkenc.NewHistogramChunk()
		return []chunks.Meta{{MinTime: mint, MaxTime: mint + 60_000, Chunk: histogramChunk(t, c, mint)}}
	}
	kind, v, ts := rng.IntN(4), 0.0, mint+rng.Int64N(hour)
	var out []chunks.Meta
	for ts < mint+2*hour-60_000*20 && len(out) < 6 {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		first, last := ts, ts
		for range 1 + rng.IntN(60) {
			switch {
			case ts >= mint+2*hour:
			case rng.IntN(60) == 0:
				app.Append(0, ts, []float64{float64FromStale(), math.NaN(), math.Inf(1), math.Copysign(0, -1)}[rng.IntN(4)])
				last = ts
			default:
				v += []float64{0, float64(rng.IntN(100)), math.Round(rng.Float64()*100) / 100, rng.Float64()}[kind]
				app.Append(0, ts, v)
				last = ts
			}
			ts += 15_000 + rng.Int64N(20)
		}
		out = append(out, chunks.Meta{MinTime: first, MaxTime: last, Chunk: c})
		ts += rng.Int64N(5) * 60_000
	}
	return out
}

func histogramChunk(t testing.TB, c *chunkenc.HistogramChunk, at int64) chunkenc.Chunk {
	app, err := c.Appender()
	require.NoError(t, err)
	for i := range int64(2) {
		_, _, app, err = app.AppendHistogram(nil, 0, at+60_000*i, tsdbutil.GenerateTestHistogram(i), false)
		require.NoError(t, err)
	}
	return c
}

// objectBucket has blocks with and without columns objects.
func objectBucket(t testing.TB, rng *rand.Rand) (*bucket.Memory, []testBlock) {
	bkt := bucket.NewMemory()
	var blocks []testBlock
	for k, ext := range []map[string]string{{"cluster": "c1", "replica": "r1"}, {"cluster": "c1", "replica": "r2"}, {"cluster": "c2", "zz": "last"}} {
		for i := range int64(3) {
			b := objectBlock(t, rng, i*2*hour, ext)
			b.upload(t, bkt)
			if k != 1 || i != 1 {
				b.addColumns(t, bkt)
			}
			blocks = append(blocks, b)
		}
	}
	return bkt, blocks
}

// addColumns puts the columns object of the block into the bucket.
func (tb testBlock) addColumns(t testing.TB, bkt bucket.Bucket) string {
	t.Helper()
	var buf bytes.Buffer
	o, err := blockcolumns.Write(t.Context(), &buf, tb.dir)
	require.NoError(t, err)
	name := block.Path(tb.meta.ULID, o.Rel)
	require.NoError(t, bkt.Upload(t.Context(), name, &buf, o.Size))
	return name
}

// narrowRequest is for few series of a metric.
func narrowRequest(rng *rand.Rand) *storeapi.Request {
	pick := func(values ...string) string { return values[rng.IntN(len(values))] }
	ms := []*labels.Matcher{matcher(labels.MatchEqual, "__name__", pick("up", "requests_total", "cpu_seconds_total", "mixed", "none"))}
	for range 1 + rng.IntN(3) {
		name := pick("job", "instance", "instance", "mode", "cpu", "A", "n", "cluster", "replica", "none")
		value := pick("api", "a:1", "a:10", "user", "ünï", "0", "10", "upper", "", "x", "c1", fmt.Sprint(rng.IntN(300)))
		ms = append(ms, matcher([]labels.MatchType{labels.MatchEqual, labels.MatchEqual, labels.MatchNotEqual, labels.MatchRegexp, labels.MatchNotRegexp}[rng.IntN(5)],
			name, value))
		if rng.IntN(3) == 0 {
			ms = append(ms, matcher(labels.MatchRegexp, name, value+"|"+pick("node", "b:1", "idle", "1", "c2", "")))
		}
	}
	mint := rng.Int64N(7*hour) - hour/2
	r := &storeapi.Request{MinTime: mint, MaxTime: mint + rng.Int64N(4*hour), Matchers: ms, Columns: rng.IntN(2) == 0}
	if rng.IntN(3) == 0 {
		r.WithoutReplicaLabels = []string{"replica"}
	}
	return r
}

// TestSelect_ObjectsAgreeWithPrometheus compares answers from columns objects with
// Prometheus's own querier over the same blocks, for random selectors of few series.
func TestSelect_ObjectsAgreeWithPrometheus(t *testing.T) {
	selectors := 2000
	if testing.Short() {
		selectors = 400
	}
	rng := rand.New(rand.NewPCG(5, 6))
	bkt, blocks := objectBucket(t, rng)
	o, g := newOracle(t, blocks), newGateway(t, bkt)
	for i := range selectors {
		r := narrowRequest(rng)
		msg := fmt.Sprintf("selector %d: %s [%d, %d] without %v, columns %v", i, matchersString(r.Matchers), r.MinTime, r.MaxTime, r.WithoutReplicaLabels, r.Columns)
		want := o.query(t.Context(), r)
		require.Equal(t, want, collect(t, g.Select(t.Context(), r), r), msg)
		require.Zero(t, g.budget.Used(), msg)
	}
	require.Greater(t, g.env.ObjectReads.Load(), int64(selectors))
	require.Zero(t, g.env.ObjectFailures.Load())
}

// TestSelect_ObjectsHaveTheBytesOfBlocks compares answers with and without the objects: a reader
// over gRPC gets the same bytes of chunks.
func TestSelect_ObjectsHaveTheBytesOfBlocks(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	bkt, blocks := objectBucket(t, rng)
	plain := bucket.NewMemory()
	for _, b := range blocks {
		b.upload(t, plain)
	}
	with, without := newGateway(t, bkt), newGateway(t, plain)
	seen := 0
	for range 300 {
		r := narrowRequest(rng)
		r.Columns = false
		if rng.IntN(3) == 0 {
			r.Limit = 1 + rng.IntN(4) // of a block
		}
		want, err := text(without.Select(t.Context(), r))
		require.NoError(t, err)
		got, err := text(with.Select(t.Context(), r))
		require.NoError(t, err)
		require.Equal(t, want, got, matchersString(r.Matchers))
		seen += strings.Count(want, "\n")
	}
	require.Greater(t, seen, 500)
	require.Greater(t, with.env.ObjectReads.Load(), int64(300))
}

// TestSelect_ObjectsWhileOthersRead reads with memory that is used again, several requests
// at the same time. The build tag hindsight_poison makes the test strict.
func TestSelect_ObjectsWhileOthersRead(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	bkt, _ := objectBucket(t, rng)
	g := newGateway(t, bkt)
	for range 20 {
		r := narrowRequest(rng)
		r.WithoutReplicaLabels = nil
		want, _, _, err := decoded(g.Select(t.Context(), r))
		require.NoError(t, err)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				set := g.Select(t.Context(), r)
				if recycling, ok := set.(storeapi.RecyclingSet); ok { // one with blocks
					recycling.Recycle()
				}
				got, _, _, err := decoded(set)
				if err != nil || got != want {
					t.Errorf("%s: %v, %d bytes instead of %d", matchersString(r.Matchers), err, len(got), len(want))
				}
				if err := set.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	require.Zero(t, g.budget.Used())
}

// namedBucket counts reads of columns objects, and of all others.
type namedBucket struct {
	bucket.Reader
	objects, others, bytes, stats atomic.Int64
}

func (b *namedBucket) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	if strings.Contains(name, "columns-v1-") {
		b.objects.Add(1)
	} else {
		b.others.Add(1)
	}
	b.bytes.Add(length)
	return b.Reader.GetRange(ctx, name, off, length)
}

func (b *namedBucket) Stat(ctx context.Context, name string) (bucket.Object, error) {
	b.stats.Add(1)
	return b.Reader.Stat(ctx, name)
}

// TestSelect_CostOfScatteredSeriesOfObjects counts the requests of a cold gateway and a
// repeated query.
func TestSelect_CostOfScatteredSeriesOfObjects(t *testing.T) {
	bkt := bucket.NewMemory()
	s := nodeBlocksWith(t, bkt, 3, block.UploadConfig{Columns: true})
	n := &namedBucket{Reader: bkt}
	g := newGateway(t, n)
	cpu, instance := matcher(labels.MatchEqual, "__name__", "node_cpu_seconds_total"), matcher(labels.MatchEqual, "instance", "10.1.0.7:9100")
	for _, c := range []struct {
		name    string
		ms      []*labels.Matcher
		series  int
		gets    int64   // of objects, for each block
		fetched float64 // bytes for each byte of the chunks that were read
	}{
		{"cold", []*labels.Matcher{cpu, instance, matcher(labels.MatchEqual, "mode", "user")}, 8, 3, 3},
		{"repeated", []*labels.Matcher{cpu, instance, matcher(labels.MatchEqual, "mode", "user")}, 8, 0, 0},
		{"the other modes", []*labels.Matcher{cpu, instance}, 64, 2, 1.5},
		{"another instance", []*labels.Matcher{cpu, matcher(labels.MatchEqual, "instance", "10.1.0.9:9100"), matcher(labels.MatchEqual, "mode", "idle")}, 8, 2, 3},
		{"an instance that does not exist", []*labels.Matcher{cpu, matcher(labels.MatchEqual, "instance", "none")}, 0, 1, 3},
		{"a metric that does not exist", []*labels.Matcher{matcher(labels.MatchEqual, "__name__", "none"), instance}, 0, 0, 0},
	} {
		n.objects.Store(0)
		n.bytes.Store(0)
		r := request(s, c.ms...)
		r.Columns = true
		set := g.Select(t.Context(), r)
		series, used := 0, 0
		for set.Next() {
			series++
			for _, ch := range set.At().Chunks {
				used += len(ch.Raw.Bytes)
			}
		}
		require.NoError(t, set.Err())
		require.NoError(t, set.Close())
		t.Logf("%s: %d GETs, %d bytes fetched for %d bytes of chunks", c.name, n.objects.Load(), n.bytes.Load(), used)
		require.Equal(t, c.series, series, c.name)
		require.LessOrEqual(t, n.objects.Load(), c.gets*int64(s.blocks), c.name)
		if used > 0 {
			require.LessOrEqual(t, float64(n.bytes.Load()), c.fetched*float64(used), c.name)
		}
	}
	require.Zero(t, n.others.Load(), "neither indexes nor chunks of the blocks")
	require.Zero(t, n.stats.Load(), "HEADs")
}

// TestSelect_ReadsBlockInsteadOfObject damages the object in all ways: the answer is that of
// the block.
func TestSelect_ReadsBlockInsteadOfObject(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	b := objectBlock(t, rng, 0, map[string]string{"cluster": "c1"})
	for name, damage := range map[string]func(name string, whole []byte) (string, []byte){
		"missing":     func(name string, _ []byte) (string, []byte) { return name, nil },
		"zeros":       func(name string, whole []byte) (string, []byte) { return name, make([]byte, len(whole)) },
		"short":       func(name string, whole []byte) (string, []byte) { return name, whole[:len(whole)/2] },
		"other bytes": func(name string, whole []byte) (string, []byte) { return name, flipped(whole) },
	} {
		t.Run(name, func(t *testing.T) {
			bkt := bucket.NewMemory()
			b.upload(t, bkt)
			name := b.addColumns(t, bkt)
			g := newGateway(t, bkt)
			as, bytes := damage(name, object(t, bkt, name))
			require.NoError(t, bkt.Delete(t.Context(), name))
			if bytes != nil {
				require.NoError(t, bkt.Upload(t.Context(), as, strings.NewReader(string(bytes)), int64(len(bytes))))
			}
			o := newOracle(t, []testBlock{b})
			for range 20 {
				r := narrowRequest(rng)
				require.Equal(t, o.query(t.Context(), r), collect(t, g.Select(t.Context(), r), r), matchersString(r.Matchers))
			}
			require.Equal(t, int64(1), g.env.ObjectFailures.Load(), "it is left alone then")
			require.Zero(t, g.env.ObjectReads.Load())
		})
	}
}

func flipped(b []byte) []byte {
	out := slices.Clone(b)
	for i := range out {
		out[i] ^= 0x55
	}
	return out
}

// TestSelect_LeavesTwoObjectsAlone: one of them may be of another version of the block.
func TestSelect_LeavesTwoObjectsAlone(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 14))
	b := objectBlock(t, rng, 0, map[string]string{"cluster": "c1"})
	bkt := bucket.NewMemory()
	b.upload(t, bkt)
	b.addColumns(t, bkt)
	require.NoError(t, bkt.Upload(t.Context(), block.Path(b.meta.ULID, "columns-v1-10-4106"), strings.NewReader(strings.Repeat("x", 4106)), 4106))
	n := &namedBucket{Reader: bkt}
	o, g := newOracle(t, []testBlock{b}), newGateway(t, n)
	for range 20 {
		r := narrowRequest(rng)
		require.Equal(t, o.query(t.Context(), r), collect(t, g.Select(t.Context(), r), r))
	}
	require.Zero(t, n.objects.Load())
}
