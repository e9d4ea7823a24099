package store

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestSync_KeepsBlocksOfRunningQuery removes all blocks from the list while a query runs: it
// still gets all series, and the headers of the blocks are freed afterwards.
func TestSync_KeepsBlocksOfRunningQuery(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	bkt, blocks := randomBucket(t, rng, 10)
	r := &storeapi.Request{MinTime: 0, MaxTime: 6 * hour, Matchers: []*labels.Matcher{matcher(labels.MatchRegexp, "n", ".+")}}
	want := newOracle(t, blocks).query(t.Context(), r)
	dir := t.TempDir()
	g := newGateway(t, bkt, "--data-dir="+dir)
	set := g.Select(t.Context(), r)
	require.Len(t, g.Info().TSDBs, len(blocks))
	for _, b := range blocks {
		require.NoError(t, bkt.Delete(t.Context(), b.meta.ULID.String()+"/meta.json"))
	}
	require.NoError(t, g.sync(t.Context()))
	require.Empty(t, g.Info().TSDBs)
	require.Equal(t, want, collect(t, set, r))
	files, err := os.ReadDir(filepath.Join(dir, headersDir))
	require.NoError(t, err)
	require.Empty(t, files)
	require.Empty(t, collect(t, g.Select(t.Context(), r), r))
}

// aggrChunk makes an aggregate chunk whose aggregates each have one value.
func aggrChunk(t testing.TB, at int64, v float64) *aggr.Chunk {
	t.Helper()
	one := func(v float64) storeapi.Data {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		app.Append(0, at, v)
		return storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: c.Bytes()}
	}
	b, err := aggr.Append(nil, &storeapi.Aggregates{Count: one(v + 1), Sum: one(v + 2), Min: one(v + 3), Max: one(v + 4), Counter: one(v + 5)})
	require.NoError(t, err)
	return aggr.NewChunk(b)
}

// TestSelect_ChoosesResolution has raw data for [0, 30) and 5m data for [0, 20).
func TestSelect_ChoosesResolution(t *testing.T) {
	bkt := bucket.NewMemory()
	put := func(n uint64, mint, maxt, resolution int64, c chunkenc.Chunk) {
		m := &block.Meta{BlockMeta: tsdb.BlockMeta{ULID: ulid.MustNew(n, nil), MinTime: mint, MaxTime: maxt}}
		m.Thanos.Labels = map[string]string{"cluster": "c"}
		m.Thanos.Downsample.Resolution = resolution
		dir := filepath.Join(t.TempDir(), m.ULID.String())
		require.NoError(t, blocktest.Write(t.Context(), dir, m, []blocktest.Series{{
			Labels: labels.FromStrings("__name__", "up"), Chunks: []chunks.Meta{{Chunk: c, MinTime: mint, MaxTime: maxt - 1}},
		}}))
		testBlock{dir: dir, meta: m}.upload(t, bkt)
	}
	raw := func(at int64) chunkenc.Chunk {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		app.Append(0, at, 1)
		return c
	}
	put(1, 0, 10, 0, raw(0))
	put(2, 10, 20, 0, raw(10))
	put(3, 20, 30, 0, raw(20))
	put(4, 0, 20, block.Resolution5m, aggrChunk(t, 5, 100))
	g := newGateway(t, bkt)

	read := func(maxResolution int64, want ...storeapi.Aggregate) []storeapi.Chunk {
		set := g.Select(t.Context(), &storeapi.Request{
			MinTime: 0, MaxTime: 29, Matchers: []*labels.Matcher{matcher(labels.MatchEqual, "__name__", "up")},
			MaxResolution: maxResolution, Aggregates: want,
		})
		defer func() { require.NoError(t, set.Close()) }()
		require.True(t, set.Next(), "%v %v", set.Err(), set.Warnings())
		out := append([]storeapi.Chunk(nil), set.At().Chunks...)
		require.False(t, set.Next())
		require.NoError(t, set.Err())
		return out
	}
	require.Len(t, read(0), 3)
	require.Len(t, read(block.Resolution5m-1), 3)
	got := read(block.Resolution1h, storeapi.AggregateSum, storeapi.AggregateCounter)
	require.Len(t, got, 2)
	require.NotNil(t, got[1].Raw.Bytes)
	a := got[0].Aggr
	require.NotNil(t, a)
	require.Nil(t, a.Count.Bytes)
	require.Nil(t, a.Min.Bytes)
	require.Nil(t, a.Max.Bytes)
	require.EqualValues(t, block.Resolution5m, a.Resolution)
	for v, d := range map[float64]storeapi.Data{102: a.Sum, 105: a.Counter} {
		c, err := chunkenc.FromData(d.Encoding, d.Bytes)
		require.NoError(t, err)
		it := c.Iterator(nil)
		require.Equal(t, chunkenc.ValFloat, it.Next())
		_, x := it.At()
		require.Equal(t, v, x)
	}
}

func TestInfo_DescribesServedBlocks(t *testing.T) {
	bkt := bucket.NewMemory()
	g := newGateway(t, bkt)
	require.Equal(t, int64(math.MaxInt64), g.Info().MinTime)
	require.Equal(t, int64(math.MinInt64), g.Info().MaxTime)
	for i, b := range []struct {
		mint, maxt, resolution int64
		cluster                string
	}{
		{0, 10, 0, "a"}, {10, 20, 0, "a"}, {5, 15, block.Resolution5m, "a"}, {30, 40, 0, "a"}, {0, 10, 0, "b"},
	} {
		m := &block.Meta{BlockMeta: tsdb.BlockMeta{ULID: ulid.MustNew(uint64(i+1), nil), MinTime: b.mint, MaxTime: b.maxt, Version: 1}}
		m.Thanos.Labels = map[string]string{"cluster": b.cluster}
		m.Thanos.Downsample.Resolution = b.resolution
		require.NoError(t, blocktest.PutMeta(t.Context(), bkt, m))
	}
	require.NoError(t, g.sync(t.Context()))
	info := g.Info()
	a, b := labels.FromStrings("cluster", "a"), labels.FromStrings("cluster", "b")
	require.Equal(t, []labels.Labels{a, b}, info.LabelSets)
	require.Equal(t, []storeapi.TSDBInfo{
		{Labels: a, MinTime: 0, MaxTime: 19}, {Labels: a, MinTime: 30, MaxTime: 39}, {Labels: b, MinTime: 0, MaxTime: 9},
	}, info.TSDBs)
	require.Equal(t, [2]int64{0, 39}, [2]int64{info.MinTime, info.MaxTime})

	part := newGateway(t, bkt, "--min-time=1970-01-01T00:00:00.005Z", "--max-time=1970-01-01T00:00:00.012Z").Info()
	require.Equal(t, [2]int64{5, 12}, [2]int64{part.MinTime, part.MaxTime})
	only := newGateway(t, bkt, "--selector.relabel-config=[{action: keep, source_labels: [cluster], regex: b}]").Info()
	require.Equal(t, []labels.Labels{b}, only.LabelSets)
	one := newGateway(t, bkt, "--selector.relabel-config=[{action: drop, source_labels: [__block_id], regex: '000000000[2-5].*'}]").Info()
	require.Equal(t, []labels.Labels{a}, one.LabelSets)
}

// A range that moves with the clock takes in later blocks between two listings. The
// gateway of later times, whose --min-time is the same, leaves them out from then on.
func TestMaxTime_MovesBetweenListings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().UnixMilli()
		const minute = int64(60_000)
		bkt := bucket.NewMemory()
		for i, b := range [][2]int64{{now - 120*minute, now - 50*minute}, {now - 50*minute, now - 10*minute}} {
			m := &block.Meta{BlockMeta: tsdb.BlockMeta{ULID: ulid.MustNew(uint64(i+1), nil), MinTime: b[0], MaxTime: b[1], Version: 1}}
			m.Thanos.Labels = map[string]string{"cluster": "a"}
			require.NoError(t, blocktest.PutMeta(t.Context(), bkt, m))
		}
		g := newGateway(t, bkt, "--max-time=-1h", "--sync-block-duration=15m", "--store.disk-cache-size=0")
		r := &storeapi.Request{MinTime: now - 50*minute, MaxTime: now, Matchers: []*labels.Matcher{matcher(labels.MatchRegexp, "n", ".+")}}
		blocks := func() int {
			brs, ws, err := g.blocksFor(r, true)
			require.NoError(t, err)
			require.Empty(t, ws)
			g.release(brs)
			return len(brs)
		}
		require.Zero(t, blocks())
		require.Less(t, g.Info().MaxTime, r.MinTime)
		time.Sleep(14 * time.Minute)
		require.Equal(t, 1, blocks())
		require.GreaterOrEqual(t, g.Info().MaxTime, now-46*minute)
		require.Less(t, g.Info().MaxTime, now-40*minute)
	})
}

func TestListBlocks_ShowsStates(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	bkt := bucket.NewMemory()
	b := writeBlock(t, rng, 0, 2*hour, 3, map[string]string{"cluster": "c"})
	b.upload(t, bkt)
	g := newGateway(t, bkt, "--max-time=2000-01-01T00:00:00Z")
	mux := http.NewServeMux()
	g.RegisterHTTP(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/blocks?view=loaded", nil))
	require.Equal(t, http.StatusOK, w.Code)
	var got struct {
		Status string
		Data   struct {
			Blocks []struct{ ULID string }
			State  map[string]struct{ Served bool }
		}
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
	require.Equal(t, b.meta.ULID.String(), got.Data.Blocks[0].ULID)
	require.True(t, got.Data.State[b.meta.ULID.String()].Served)
	w = httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/blocks/mark", nil))
	require.Equal(t, http.StatusBadRequest, w.Code)
}

func TestValidate_RefusesWrongValues(t *testing.T) {
	for _, c := range []struct{ flag, want string }{
		{"--sync-block-duration=0s", "--sync-block-duration"},
		{"--deletions.poll-interval=0s", "--deletions.poll-interval"},
		{"--block-sync-concurrency=0", "--block-sync-concurrency must be at least 1"},
		{"--min-time=2030-01-01T00:00:00Z --max-time=2020-01-01T00:00:00Z", "is after"},
		{"--selector.relabel-config=[{action:\u00a0replace}]", "--selector.relabel-config"},
		{"--selector.relabel-config=[{action:\u00a0replace,target_label:\u00a0x}]", "rule 1: action \"replace\" cannot choose blocks (use keep, drop or hashmod)"},
		{"--index-cache.config={type:\u00a0MEMCACHED}", "not supported"},
		{"--index-cache.config={typo:\u00a0x}", "typo"},
		{"--objstore-parquet.config={}", "not supported"},
	} {
		var cfg Config
		app := kingpin.New("test", "")
		cfg.RegisterFlags(app)
		var args []string
		for _, f := range strings.Fields(strings.ReplaceAll(c.flag, "\u00a0", "\x00")) {
			args = append(args, strings.ReplaceAll(f, "\x00", " "))
		}
		_, err := app.Parse(args)
		require.NoError(t, err, c.flag)
		err = cfg.Validate()
		require.ErrorContains(t, err, c.want, c.flag)
		require.True(t, flags.IsInvalid(err), c.flag)
	}
	var cfg Config
	app := kingpin.New("test", "")
	cfg.RegisterFlags(app)
	_, err := app.Parse([]string{"--index-cache.config={type: IN-MEMORY, config: {max_size: 1MB}}"})
	require.NoError(t, err)
	require.NoError(t, cfg.Validate())
	n, err := cfg.memoryBytes()
	require.NoError(t, err)
	require.Equal(t, int64(1<<20), n)
}

// TestUnloadIdle_HeadersAreLoadedAgain unloads unused headers, and loads them again.
func TestUnloadIdle_HeadersAreLoadedAgain(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 2))
	bkt, blocks := randomBucket(t, rng, 5)
	g := newGateway(t, bkt)
	loaded := func() (n int) {
		for _, b := range g.blocks.byID {
			if _, ok := b.HeaderLoaded(); ok {
				n++
			}
		}
		return n
	}
	r := &storeapi.Request{MinTime: 0, MaxTime: 6 * hour, Matchers: []*labels.Matcher{matcher(labels.MatchRegexp, "n", ".+")}}
	drain(t, g, t.Context(), r)
	require.Equal(t, len(blocks), loaded())
	g.unloadIdle(time.Now())
	require.Equal(t, len(blocks), loaded())
	g.unloadIdle(time.Now().Add(time.Hour))
	require.Zero(t, loaded())
	require.Len(t, collect(t, g.Select(t.Context(), r), r), len(newOracle(t, blocks).query(t.Context(), r)))
}

// TestGateway_AnswersCompletelyWhileBlocksChange queries while blocks appear and disappear, headers are
// unloaded and pages are dropped: every answer has all series of the blocks that stay.
func TestGateway_AnswersCompletelyWhileBlocksChange(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 2))
	bkt, blocks := randomBucket(t, rng, 8)
	stay, guest := blocks[:6], blocks[6:]
	r := &storeapi.Request{MinTime: 0, MaxTime: 6 * hour, Matchers: []*labels.Matcher{matcher(labels.MatchRegexp, "n", ".+")}}
	sure := newOracle(t, stay).query(t.Context(), r)
	all := newOracle(t, blocks).query(t.Context(), r)
	alone := len(sure)
	for _, b := range guest {
		alone += len(newOracle(t, []testBlock{b}).query(t.Context(), r))
	}
	require.Len(t, all, alone, "each series that comes and goes is of one block")
	g := newGateway(t, bkt, "--store.grpc.series-max-concurrency=3", "--index-cache-size=100KB", "--store.disk-cache-size=500KB")
	done := make(chan struct{})
	var readers, others sync.WaitGroup
	for range 6 {
		readers.Go(func() {
			for range 15 {
				set := g.Select(t.Context(), r)
				got := collect(t, set, r)
				for k, v := range got {
					assert.Equal(t, all[k], v, "a block that comes or goes is read whole or not at all")
				}
				for k := range sure {
					assert.Contains(t, got, k)
				}
				_, _, err := g.LabelNames(t.Context(), r)
				assert.NoError(t, err)
			}
		})
	}
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			for _, b := range guest {
				if i%2 == 0 {
					assert.NoError(t, bkt.Delete(t.Context(), b.meta.ULID.String()+"/meta.json"))
				} else {
					assert.NoError(t, blocktest.PutMeta(t.Context(), bkt, b.meta))
				}
				assert.NoError(t, g.sync(t.Context()))
			}
			g.unloadIdle(time.Now().Add(time.Hour))
			g.pages.Forget(stay[i%len(stay)].meta.ULID)
			_ = g.Info()
		}
	})
	readers.Wait()
	close(done)
	others.Wait()
	require.Zero(t, g.budget.Used())
}

// BenchmarkSync lists 10,000 blocks for the first time, and again.
func BenchmarkSync(b *testing.B) {
	bkt := bucket.NewMemory()
	for i := range 10_000 {
		m := &block.Meta{BlockMeta: tsdb.BlockMeta{ULID: ulid.MustNew(uint64(i+1), nil), MinTime: int64(i) * hour, MaxTime: int64(i+1) * hour, Version: 1}}
		m.Compaction.Sources = []ulid.ULID{m.ULID}
		m.Thanos.Labels = map[string]string{"cluster": strconv.Itoa(i % 20)}
		require.NoError(b, blocktest.PutMeta(b.Context(), bkt, m))
	}
	b.Run("first", func(b *testing.B) {
		for range b.N {
			newGateway(b, bkt, "--store.disk-cache-size=0")
		}
	})
	b.Run("again", func(b *testing.B) {
		g := newGateway(b, bkt, "--store.disk-cache-size=0")
		b.ResetTimer()
		for range b.N {
			require.NoError(b, g.sync(b.Context()))
		}
	})
}
