package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// testBlock is a block on disk, as TSDB wrote it, and its place in the bucket.
type testBlock struct {
	dir  string
	meta *block.Meta
}

// writeBlock makes a block of random series: floats with gaps, resets and stale
// markers, histograms of all kinds, and label sets that sort in odd ways.
func writeBlock(t testing.TB, rng *rand.Rand, mint, maxt int64, series int, ext map[string]string) testBlock {
	t.Helper()
	dir := t.TempDir()
	w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), dir, 4*(maxt-mint))
	require.NoError(t, err)
	defer w.Close()
	ctx := t.Context()
	for i := range series {
		app := w.Appender(ctx)
		lset := randomLabels(rng, i)
		kind, v := rng.IntN(6), 0.0
		step := []int64{15_000, 60_000, 60_000, 60_000}[rng.IntN(4)]
		from := mint + rng.Int64N(maxt-mint)/[]int64{1000, 2}[rng.IntN(2)]
		for ts := from; ts < maxt; ts += step {
			if rng.IntN(50) == 0 {
				ts += rng.Int64N(20) * step // a gap
				if ts >= maxt {
					break
				}
			}
			n := (ts - mint) / step
			switch {
			case kind == 0:
				_, err = app.AppendHistogram(0, lset, ts, tsdbutil.GenerateTestHistogram(n), nil)
			case kind == 1:
				_, err = app.AppendHistogram(0, lset, ts, nil, tsdbutil.GenerateTestFloatHistogram(n))
			case kind == 2 && rng.IntN(100) == 0:
				_, err = app.Append(0, lset, ts, float64FromStale())
			default:
				v += rng.Float64() * 10
				if rng.IntN(200) == 0 {
					v = 0 // a reset
				}
				x := v
				if kind > 3 {
					x = math.Round(v*100) / 100 // as of most counters
				}
				_, err = app.Append(0, lset, ts, x)
			}
			require.NoError(t, err)
		}
		require.NoError(t, app.Commit())
	}
	id, err := w.Flush(ctx)
	require.NoError(t, err)
	return openTestBlock(t, filepath.Join(dir, id.String()), id, ext)
}

func openTestBlock(t testing.TB, dir string, id ulid.ULID, ext map[string]string) testBlock {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	require.NoError(t, err)
	m, err := block.ParseMeta(b)
	require.NoError(t, err)
	m.ULID = id
	m.Thanos.Labels = ext
	m.Thanos.Source = block.SourceSidecar
	return testBlock{dir: dir, meta: m}
}

func float64FromStale() float64 { return mathFloat(value.StaleNaN) }

func randomLabels(rng *rand.Rand, i int) labels.Labels {
	b := labels.NewBuilder(labels.FromStrings("n", fmt.Sprint(i)))
	if rng.IntN(12) > 0 {
		b.Set("__name__", []string{"up", "http_requests_total", "http_requests_total", "node_cpu_seconds_total", "a"}[rng.IntN(5)])
	}
	// A list, because a map has another order in each run of the same seed.
	for _, l := range []struct {
		name   string
		values []string
	}{
		{"job", []string{"api", "node", "prometheus", "api-long-name", ""}},
		{"pod", []string{fmt.Sprintf("pod-%d", rng.IntN(30)), ""}},
		{"A", []string{"upper", "", ""}},
		{"cluster", []string{"inside", "", "", ""}}, // collides with the external label
		{"replica", []string{"x", "y", "", ""}},
		{"zone", []string{"eu", "us", "", strings.Repeat("long", 100)}},
		{"ünï", []string{"ö", "\xf0\x9f\x98\x80", "", ""}},
		{"path", []string{"/", "/a/b", "", "a|b", ".*"}},
		{"le", []string{"0.1", "1", "+Inf", ""}},
	} {
		if rng.IntN(2) == 0 {
			b.Set(l.name, l.values[rng.IntN(len(l.values))])
		}
	}
	return b.Labels()
}

// upload puts the block's files and meta.json into the bucket.
func (tb testBlock) upload(t testing.TB, bkt bucket.Bucket) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(tb.dir, func(p string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(tb.dir, p)
		if err != nil || d.IsDir() || (rel != "index" && filepath.Dir(rel) != "chunks") {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		return bkt.Upload(t.Context(), path.Join(tb.meta.ULID.String(), filepath.ToSlash(rel)), bytes.NewReader(b), int64(len(b)))
	}))
	b, err := tb.meta.Encode()
	require.NoError(t, err)
	require.NoError(t, bkt.Upload(t.Context(), tb.meta.ULID.String()+"/meta.json", bytes.NewReader(b), int64(len(b))))
}

// newGateway makes a gateway over the bucket that has listed it.
func newGateway(t testing.TB, bkt bucket.Reader, args ...string) *Gateway {
	t.Helper()
	var cfg Config
	app := kingpin.New("test", "")
	cfg.RegisterFlags(app)
	if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--data-dir=") }) {
		args = append(args, "--data-dir="+t.TempDir())
	}
	_, err := app.Parse(args)
	require.NoError(t, err)
	require.NoError(t, cfg.Validate())
	g, err := New(cfg, Deps{
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewPedanticRegistry(),
		Bucket: bkt,
	})
	require.NoError(t, err)
	require.Error(t, g.Ready())
	require.NoError(t, g.sync(t.Context()))
	require.NoError(t, g.Ready())
	t.Cleanup(g.close)
	return g
}

// countingBucket counts range reads by kind of object.
type countingBucket struct {
	bucket.Reader
	index, chunks, bytes atomic.Int64
	mu                   sync.Mutex
	fail                 func(name string) error
}

func (c *countingBucket) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	if strings.HasSuffix(name, "/index") {
		c.index.Add(1)
	} else {
		c.chunks.Add(1)
	}
	c.bytes.Add(length)
	c.mu.Lock()
	fail := c.fail
	c.mu.Unlock()
	if fail != nil {
		if err := fail(name); err != nil {
			return nil, err
		}
	}
	return c.Reader.GetRange(ctx, name, off, length)
}

func (c *countingBucket) take() (index, chunks, bytes int64) {
	return c.index.Swap(0), c.chunks.Swap(0), c.bytes.Swap(0)
}

func (c *countingBucket) setFail(f func(name string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = f
}
