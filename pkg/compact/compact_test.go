package compact_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact"
	"github.com/hindsight-io/hindsight/pkg/flags"
)

func TestMain(m *testing.M) {
	// The SDK of a provider starts it when it is linked.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/baidubce/bce-sdk-go/util/log.NewLogger.func1"))
}

// config parses flags like a command line.
func config(t testing.TB, args ...string) compact.Config {
	t.Helper()
	app := kingpin.New("compact", "")
	var cfg compact.Config
	cfg.RegisterFlags(app)
	_, err := app.Parse(append([]string{"--data-dir=" + t.TempDir(), "--consistency-delay=0s"}, args...))
	require.NoError(t, err)
	require.NoError(t, cfg.Validate())
	return cfg
}

func newCompactor(t testing.TB, b bucket.Bucket, args ...string) *compact.Compactor {
	t.Helper()
	return compactorIn(t, t.TempDir(), b, args...)
}

// compactorIn makes a compactor with a data directory.
func compactorIn(t testing.TB, dir string, b bucket.Bucket, args ...string) *compact.Compactor {
	t.Helper()
	cfg := config(t, args...)
	cfg.DataDir = dir
	c, err := compact.New(cfg, compact.Deps{Bucket: b, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	require.NoError(t, err)
	return c
}

func poll(t testing.TB, b bucket.Bucket) *blocklist.View {
	t.Helper()
	v, err := blocklist.NewPoller(b, blocklist.Config{}).Poll(context.Background())
	require.NoError(t, err)
	return v
}

// live describes the blocks that are not marked for deletion, one a line.
func live(t testing.TB, b bucket.Bucket) []string {
	t.Helper()
	v := poll(t, b)
	var out []string
	for id, m := range v.Metas {
		if v.Deletion[id] == nil {
			const hour = 3_600_000
			out = append(out, fmt.Sprintf("%d..%dh res=%d level=%d samples=%d series=%d %s",
				m.MinTime/hour, m.MaxTime/hour, m.Resolution()/60_000, m.Compaction.Level, m.Stats.NumSamples, m.Stats.NumSeries, m.ExternalLabels()))
		}
	}
	slices.Sort(out)
	return out
}

// sample of a series, told apart by bits so that NaN can be compared.
type sample struct {
	t    int64
	bits uint64
	hist string
}

// content reads all raw samples of the blocks that are not marked for deletion,
// by external labels and series.
func content(t testing.TB, b bucket.Bucket, drop ...string) map[string][]sample {
	t.Helper()
	v := poll(t, b)
	out := map[string][]sample{}
	for id, m := range v.Metas {
		if v.Deletion[id] != nil || m.Resolution() != 0 {
			continue
		}
		ext := labels.NewBuilder(m.ExternalLabels()).Del(drop...).Labels().String()
		each(t, b, id, func(lset labels.Labels, chks []chunks.Meta) {
			key := ext + lset.String()
			for _, c := range chks {
				out[key] = append(out[key], samples(t, c.Chunk)...)
			}
		})
	}
	for key := range out {
		slices.SortFunc(out[key], func(a, b sample) int { return int(a.t - b.t) })
	}
	return out
}

func samples(t testing.TB, c chunkenc.Chunk) []sample { return drain(t, c.Iterator(nil)) }

func drain(t testing.TB, it chunkenc.Iterator) []sample {
	var out []sample
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ == chunkenc.ValFloat {
			ts, v := it.At()
			out = append(out, sample{t: ts, bits: math.Float64bits(v)})
			continue
		}
		ts, h := it.AtFloatHistogram(nil)
		out = append(out, sample{t: ts, hist: h.String()})
	}
	require.NoError(t, it.Err())
	return out
}

// each calls f for every series of a block.
func each(t testing.TB, b bucket.Bucket, id ulid.ULID, f func(labels.Labels, []chunks.Meta)) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), id.String())
	_, err := block.Download(context.Background(), b, id, dir, block.DownloadConfig{})
	require.NoError(t, err)
	ir, err := index.NewFileReader(filepath.Join(dir, "index"), index.DecodePostingsRaw)
	require.NoError(t, err)
	defer ir.Close()
	cr, err := chunks.NewDirReader(filepath.Join(dir, "chunks"), aggr.NewPool())
	require.NoError(t, err)
	defer cr.Close()
	all, err := ir.Postings(context.Background(), "", "")
	require.NoError(t, err)
	var builder labels.ScratchBuilder
	for all.Next() {
		var chks []chunks.Meta
		require.NoError(t, ir.Series(all.At(), &builder, &chks))
		for i := range chks {
			chks[i].Chunk, _, err = cr.ChunkOrIterable(chks[i])
			require.NoError(t, err)
		}
		f(builder.Labels(), chks)
	}
	require.NoError(t, all.Err())
}

// twoHours writes n blocks of 2 h each. name has at most seven letters.
func twoHours(n int, name, ext string) string {
	var s strings.Builder
	for i := range n {
		fmt.Fprintf(&s, "block %s%03d range=%dh..%dh labels=%s\n", name, i, 2*i, 2*i+2, ext)
		fmt.Fprintf(&s, "  up{job=\"x\"} %dh..%dh/15s:1+0.5\n", 2*i, 2*i+2)
		fmt.Fprintf(&s, "  lat{job=\"x\"} %dh..%dh/1m:h1+1\n", 2*i, 2*i+2)
		fmt.Fprintf(&s, "  once{block=\"%d\"} %dh:7\n", i, 2*i)
	}
	return s.String()
}

func TestMerge_FillsWindows(t *testing.T) {
	b := blocktest.Bucket(t, twoHours(26, "a", `{cluster="eu"}`))
	before := content(t, b)
	c := newCompactor(t, b, "--downsampling.disable")
	require.NoError(t, c.RunOnce(context.Background()))
	require.Equal(t, []string{
		`0..48h res=0 level=3 samples=14424 series=26 {cluster="eu"}`,
		`48..50h res=0 level=1 samples=601 series=3 {cluster="eu"}`,
		`50..52h res=0 level=1 samples=601 series=3 {cluster="eu"}`,
	}, live(t, b))
	require.Equal(t, before, content(t, b))
	// Nothing is left to do.
	calls := live(t, b)
	require.NoError(t, c.RunOnce(context.Background()))
	require.Equal(t, calls, live(t, b))
}

func TestMerge_WritesMeta(t *testing.T) {
	b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`))
	require.NoError(t, newCompactor(t, b, "--hash-func=SHA256").RunOnce(context.Background()))
	for id, m := range poll(t, b).Metas {
		if m.Compaction.Level == 1 {
			continue
		}
		require.Equal(t, block.SourceCompactor, m.Thanos.Source)
		require.Equal(t, []string{"000001"}, m.Thanos.SegmentFiles)
		require.Len(t, m.Thanos.Files, 3)
		require.NotNil(t, m.Thanos.Files[0].Hash)
		require.Len(t, m.Compaction.Sources, 4)
		require.Len(t, m.Compaction.Parents, 4)
		require.NotZero(t, m.Thanos.IndexStats.SeriesMaxSize)
		require.False(t, m.Thanos.UploadTime.IsZero())
		require.Equal(t, id, m.ULID)
	}
}

func TestDryRun_PrintsPlan(t *testing.T) {
	b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`))
	objects := list(t, b)
	var out bytes.Buffer
	c, err := compact.New(config(t, "--dry-run"), compact.Deps{Bucket: b, Out: &out})
	require.NoError(t, err)
	require.NoError(t, c.Run(context.Background()))
	require.Contains(t, out.String(), `merge raw@{cluster="eu"} 1970-01-01T00:00:00Z..1970-01-01T08:00:00Z: 4 blocks in a finished window of 8h`)
	require.Equal(t, objects, list(t, b), "a dry run changes nothing")
}

func list(t testing.TB, b bucket.Bucket) []string {
	t.Helper()
	var out []string
	require.NoError(t, b.List(context.Background(), "", func(o bucket.Object) error {
		out = append(out, o.Name)
		return nil
	}))
	return out
}

func TestConfig_RefusesWrongValues(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		app := kingpin.New("compact", "")
		var cfg compact.Config
		cfg.RegisterFlags(app)
		_, err := app.Parse(args)
		require.NoError(t, err)
		err = cfg.Validate()
		require.ErrorContains(t, err, want)
		require.True(t, flags.IsInvalid(err))
	}
	f("needs --deduplication.replica-label", "--deduplication.func=penalty")
	f("raw retention of 1h is shorter than 40h", "--retention.resolution-raw=1h")
	f("--compact.concurrency must be at least 1", "--compact.concurrency=0")
	f("--debug.max-compaction-level must be from 1 to 4", "--debug.max-compaction-level=9")
	f("rule 1: action \"replace\" cannot choose blocks", "--selector.relabel-config=[{source_labels: [a], target_label: b}]")
	f("selector.relabel-config", "--selector.relabel-config={")
}
