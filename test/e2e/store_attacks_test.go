package e2e

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// Bounds of the memory of the processes under the attacks below. The
// gateway's pool has 128 MiB, the querier's budget 256 MiB; the rest is garbage
// before its collection, and memory of the processes outside of the budgets.
const (
	storePeak   = 900 << 20
	querierPeak = 1024 << 20
	compactPeak = 1024 << 20
	// atRest bounds the memory of each some time after the attacks.
	atRest = 400 << 20
)

// attackedBucket is a bucket with good data and with objects that are attacks.
type attackedBucket struct {
	t    *testing.T
	dir  string
	mint int64
}

const attackedSeries = 4000

func newAttackedBucket(t *testing.T) *attackedBucket {
	b := &attackedBucket{t: t, dir: t.TempDir(), mint: time.Now().Add(-24 * time.Hour).Truncate(2 * time.Hour).UnixMilli()}
	b.good()
	b.histogramBomb()
	b.indexBomb()
	b.oddMark()
	return b
}

func (b *attackedBucket) config() string {
	return "--objstore.config=type: FILESYSTEM\nconfig:\n  directory: " + b.dir + "\n"
}

// good is a block of two hours with attackedSeries series of 480 random samples.
func (b *attackedBucket) good() {
	w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), b.dir, twoHours)
	require.NoError(b.t, err)
	defer func() { require.NoError(b.t, w.Close()) }()
	rnd := rand.New(rand.NewPCG(1, 1))
	app := w.Appender(b.t.Context())
	for i := range attackedSeries {
		ls := labels.FromStrings("__name__", "good", "series", strconv.Itoa(i))
		for at := b.mint; at < b.mint+twoHours; at += 15_000 {
			_, err := app.Append(0, ls, at, rnd.Float64())
			require.NoError(b.t, err)
		}
	}
	require.NoError(b.t, app.Commit())
	id, err := w.Flush(b.t.Context())
	require.NoError(b.t, err)
	dir := filepath.Join(b.dir, id.String())
	meta, err := block.ReadMetaDir(dir)
	require.NoError(b.t, err)
	meta.MinTime, meta.MaxTime = b.mint, b.mint+twoHours
	meta.Thanos.Labels = map[string]string{"cluster": "good"}
	meta.Thanos.Source = block.SourceSidecar
	require.NoError(b.t, block.WriteMetaDir(dir, meta))
}

func (b *attackedBucket) histogramBomb() {
	c, err := chunkenc.FromData(chunkenc.EncHistogram, histogramBomb())
	require.NoError(b.t, err)
	id := ulid.Make()
	meta := &block.Meta{}
	meta.ULID, meta.MinTime, meta.MaxTime = id, b.mint, b.mint+twoHours
	meta.Thanos.Labels = map[string]string{"cluster": "bomb"}
	meta.Thanos.Source = block.SourceSidecar
	require.NoError(b.t, blocktest.Write(b.t.Context(), filepath.Join(b.dir, id.String()), meta, []blocktest.Series{{
		Labels: labels.FromStrings("__name__", "bomb"),
		Chunks: []chunks.Meta{{MinTime: b.mint, MaxTime: b.mint, Chunk: c}},
	}}))
}

// indexBomb is an index of the bucket that is 2 GiB when unpacked.
func (b *attackedBucket) indexBomb() {
	require.NoError(b.t, os.MkdirAll(filepath.Join(b.dir, "hindsight"), 0o755))
	f, err := os.Create(filepath.Join(b.dir, "hindsight", "block-index-v1.ndjson.gz"))
	require.NoError(b.t, err)
	defer f.Close()
	z, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	require.NoError(b.t, err)
	_, err = io.CopyN(z, zeros{}, 2<<30)
	require.NoError(b.t, err)
	require.NoError(b.t, z.Close())
}

// oddMark is a deletion mark with a time in the year 292 million.
func (b *attackedBucket) oddMark() {
	ids, err := filepath.Glob(filepath.Join(b.dir, "*", "meta.json"))
	require.NoError(b.t, err)
	for _, meta := range ids {
		id := filepath.Base(filepath.Dir(meta))
		mark, err := json.Marshal(map[string]any{"id": id, "version": 1, "deletion_time": int64(math.MaxInt64 / 1000)})
		require.NoError(b.t, err)
		require.NoError(b.t, os.WriteFile(filepath.Join(filepath.Dir(meta), "deletion-mark.json"), mark, 0o644))
	}
}

func requirePeak(t *testing.T, p *harness.Process, most int64, after string) {
	t.Helper()
	require.True(t, p.Running(), "%s ended %s:\n%s", after, p.Name, p.Tail(20))
	peak, err := p.Peak()
	require.NoError(t, err)
	t.Logf("after %s: peak of %s %d MiB", after, p.Name, peak>>20)
	require.Less(t, peak, most, "the peak of %s after %s is %d MiB", p.Name, after, peak>>20)
}

// Neither hostile objects in a bucket nor hostile requests make the gateway or the
// querier exceed their budgets, and the memory is freed afterwards.
func TestStoreSurvivesAttacks(t *testing.T) {
	t.Parallel()
	require.Empty(t, os.Getenv("GOMEMLIMIT"), "the bounds must hold without it")
	b := newAttackedBucket(t)
	dir, host := t.TempDir(), harness.Host()
	ports, err := harness.Ports(host, 3)
	require.NoError(t, err)
	start := func(name string, args ...string) *harness.Process {
		p, err := harness.Start(dir, name, bin.Hindsight, append([]string{name}, args...)...)
		require.NoError(t, err)
		t.Cleanup(func() {
			p.Kill()
			if t.Failed() {
				t.Log(p.Tail(20))
			}
		})
		return p
	}
	store := start("store", "--http-address="+host+":0", "--grpc-address="+ports[0], "--data-dir="+dir+"/store", b.config(),
		"--chunk-pool-size=128MB", "--index-cache-size=32MB", "--store.disk-cache-size=0")
	query := start("query", "--http-address="+ports[1], "--grpc-address="+host+":0", "--endpoint="+ports[0],
		"--query.max-memory=256MB", "--query.timeout=30s")
	a := bucketAttack{t: t, bucket: b, base: "http://" + ports[1], grpc: ports[0]}
	eventually(t, time.Minute, a.good)
	requirePeak(t, store, storePeak, "a start with bad objects")
	_, body := a.query("count_over_time(bomb[3h])", time.Minute)
	require.Contains(t, body, "corrupt", "the bad chunk is named")
	a.manyMatchers()
	requirePeak(t, store, storePeak, "many matchers")
	stop := a.unreadStreams(30)
	eventually(t, time.Minute, a.good)
	stop()
	requirePeak(t, store, storePeak, "streams that are not read")
	a.manyQueries(100)
	requirePeak(t, store, storePeak, "many queries at once")
	requirePeak(t, query, querierPeak, "many queries at once")
	require.NoError(t, a.good())
	for _, p := range []*harness.Process{store, query} {
		eventually(t, 2*time.Minute, func() error {
			rss, err := p.Resident()
			if err == nil && rss > atRest {
				err = fmt.Errorf("%s still holds %d MiB", p.Name, rss>>20)
			}
			return err
		})
	}
}

// The compactor skips bad objects, and needs no more memory for them.
func TestCompactorSurvivesAttacks(t *testing.T) {
	t.Parallel()
	b := newAttackedBucket(t)
	dir, host := t.TempDir(), harness.Host()
	addr, err := harness.Port(host)
	require.NoError(t, err)
	p, err := harness.Start(dir, "compact", bin.Hindsight, "compact", "--wait", "--http-address="+addr, "--data-dir="+dir+"/data",
		b.config(), "--consistency-delay=0s")
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	require.NoError(t, harness.WaitHTTP(p, "http://"+addr+"/-/ready", 30*time.Second))
	eventually(t, time.Minute, func() error {
		if _, err := os.Stat(filepath.Join(b.dir, "hindsight", "compactor-clock")); err != nil {
			return fmt.Errorf("no pass has ended: %w\n%s", err, p.Tail(5))
		}
		return nil
	})
	requirePeak(t, p, compactPeak, "a pass over bad objects")
	require.NoError(t, p.Stop(20*time.Second))
	left, err := filepath.Glob(filepath.Join(b.dir, "*", "meta.json"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(left), 2, "no block is deleted because of an impossible mark")
}

// bucketAttack requests the data of an attackedBucket.
type bucketAttack struct {
	t          *testing.T
	bucket     *attackedBucket
	base, grpc string
}

func (a bucketAttack) query(expr string, within time.Duration) (status int, body string) {
	at := strconv.FormatInt((a.bucket.mint+twoHours)/1000-15, 10)
	client := http.Client{Timeout: within}
	resp, err := client.PostForm(a.base+"/api/v1/query", url.Values{"query": {expr}, "time": {at}})
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

func (a bucketAttack) good() error {
	status, body := a.query("count(good)", 30*time.Second)
	if want := fmt.Sprintf(`"%d"]`, attackedSeries); status != http.StatusOK || !strings.Contains(body, want) {
		return fmt.Errorf("a harmless query gets %d %.300s", status, body)
	}
	return nil
}

func (a bucketAttack) client() (storepb.StoreClient, func()) {
	conn, err := grpc.NewClient(a.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(a.t, err)
	return storepb.NewStoreClient(conn), func() { require.NoError(a.t, conn.Close()) }
}

func (a bucketAttack) manyMatchers() {
	c, end := a.client()
	defer end()
	r := &storepb.SeriesRequest{MinTime: a.bucket.mint, MaxTime: a.bucket.mint + twoHours}
	for i := range 100_000 {
		r.Matchers = append(r.Matchers, &storepb.LabelMatcher{Type: storepb.LabelMatcher_NRE, Name: "series", Value: fmt.Sprintf("a.*%d", i)})
	}
	ctx, cancel := context.WithTimeout(a.t.Context(), 20*time.Second)
	defer cancel()
	stream, err := c.Series(ctx, r)
	require.NoError(a.t, err)
	_, err = stream.Recv()
	require.ErrorContains(a.t, err, "InvalidArgument")
}

// unreadStreams opens streams and does not read them, until the returned function is
// called.
func (a bucketAttack) unreadStreams(n int) func() {
	c, end := a.client()
	ctx, cancel := context.WithCancel(a.t.Context())
	for range n {
		_, err := c.Series(ctx, &storepb.SeriesRequest{
			MinTime: a.bucket.mint, MaxTime: a.bucket.mint + twoHours,
			Matchers: []*storepb.LabelMatcher{{Name: "__name__", Value: "good"}},
		})
		require.NoError(a.t, err)
	}
	time.Sleep(2 * time.Second)
	return func() { cancel(); end() }
}

// manyQueries requests all data in many concurrent queries. Each gets an answer, or an
// error that names the missing resource.
func (a bucketAttack) manyQueries(n int) {
	var wg sync.WaitGroup
	answers := make([]int, n)
	for i := range n {
		wg.Go(func() {
			answers[i], _ = a.query(fmt.Sprintf("sum(rate(good[2h])) + sum(max_over_time(good[%dm]))", 60+i%60), 2*time.Minute)
		})
	}
	wg.Wait()
	count := map[int]int{}
	for _, status := range answers {
		count[status]++
	}
	a.t.Logf("%d queries at once: %v by status", n, count)
	require.Equal(a.t, n, count[http.StatusOK]+count[http.StatusServiceUnavailable]+count[http.StatusUnprocessableEntity])
	require.Positive(a.t, count[http.StatusOK])
}
