package compact_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact"
)

// times are those of the samples of one chunk, one a minute.
func times(from int64, n int) []int64 {
	ts := make([]int64, n)
	for i := range ts {
		ts[i] = from + int64(i)*60_000
	}
	return ts
}

func floatsAt(ts ...int64) chunkenc.Chunk {
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	if err != nil {
		panic(err) // impossible: the chunk is new
	}
	for _, t := range ts {
		app.Append(0, t, float64(t))
	}
	return c
}

func histogramsAt(t testing.TB, ts ...int64) chunkenc.Chunk {
	t.Helper()
	c := chunkenc.NewHistogramChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for i, at := range ts {
		_, _, app, err = app.AppendHistogram(nil, 0, at, tsdbutil.GenerateTestHistogram(int64(i)), true)
		require.NoError(t, err)
	}
	return c
}

// hourly are the chunks of the two hours from a time on.
func hourly(from int64) []chunks.Meta {
	var out []chunks.Meta
	for _, f := range []int64{from, from + 3_600_000} {
		out = append(out, chunks.Meta{MinTime: f, MaxTime: f + 59*60_000, Chunk: floatsAt(times(f, 60)...)})
	}
	return out
}

// putSeries uploads a block of two hours with one series of these chunks among sound ones.
func putSeries(t testing.TB, b bucket.Bucket, name string, hour int64, ext labels.Labels, chks []chunks.Meta) {
	t.Helper()
	id := blocktest.ID(name)
	dir := filepath.Join(t.TempDir(), id.String())
	m := &block.Meta{}
	m.ULID, m.MinTime, m.MaxTime = id, hour*3_600_000, (hour+2)*3_600_000
	m.Thanos.Labels = ext.Map()
	require.NoError(t, blocktest.Write(context.Background(), dir, m, []blocktest.Series{
		{Labels: labels.FromStrings("__name__", "first"), Chunks: hourly(m.MinTime)},
		{Labels: labels.FromStrings("__name__", "odd"), Chunks: chks},
		{Labels: labels.FromStrings("__name__", "last"), Chunks: hourly(m.MinTime)},
	}))
	_, err := block.Upload(context.Background(), b, dir, block.UploadConfig{})
	require.NoError(t, err)
}

// swapped exchanges two times.
func swapped(ts []int64) []int64 {
	ts[30], ts[31] = ts[31], ts[30]
	return ts
}

// A writer damaged a chunk before it took the checksum. Merged with blocks before and after
// it, with a block that overlaps it, or with one of a replica, the block is blamed with its
// series and gets a mark; the blocks beside it are not, and all of them are merged.
func TestMerge_BlamesBlockWithWrongSamples(t *testing.T) {
	const from = 6 * 3_600_000
	second := func(c chunkenc.Chunk) func() []chunks.Meta {
		return func() []chunks.Meta {
			out := hourly(from)
			out[1].Chunk = c
			return out
		}
	}
	late := from + int64(3_600_000)
	damages := map[string]struct {
		chks func() []chunks.Meta
		want string
	}{
		"backward":            {second(floatsAt(swapped(times(late, 60))...)), "sample_times_wrong"},
		"backward histograms": {second(histogramsAt(t, swapped(times(late, 60))...)), "sample_times_wrong"},
		"before its times":    {second(floatsAt(times(late-600_000, 70)...)), "sample_times_wrong"},
		"after the block":     {second(floatsAt(times(late+7_200_000, 60)...)), "sample_times_wrong"},
		"announces too much":  {second(shorter(t, floatsAt(times(late, 60)...))), "chunk_corrupt"},
		"histograms are cut":  {second(shorter(t, histogramsAt(t, times(late, 60)...))), "chunk_corrupt"},
		"two samples at once": {second(floatsAt(append(times(late, 59), late+58*60_000)...)), "sample_times_wrong"},
		"before 1970":         {second(floatsAt(times(-late, 60)...)), "sample_times_wrong"},
	}
	for name, d := range damages {
		for _, beside := range []string{"windows", "overlap", "replicas", "decoded replicas"} {
			mode := "full"
			if beside == "decoded replicas" {
				// Only chunks that have to be merged are decoded, and blame their block then.
				if beside, mode = "replicas", "sample"; d.want != "chunk_corrupt" {
					continue
				}
			}
			t.Run(name+" "+beside+" "+mode, func(t *testing.T) {
				b := bucket.NewMemory()
				a := labels.FromStrings("cluster", "eu", "replica", "a")
				for h := int64(0); h < 12; h += 2 {
					chks := hourly(h * 3_600_000)
					if h == 6 {
						chks = d.chks()
					}
					putSeries(t, b, fmt.Sprintf("a%02d", h), h, a, chks)
				}
				switch beside {
				case "overlap":
					putSeries(t, b, "b06", 6, a, hourly(from)[:1])
				case "replicas":
					putSeries(t, b, "b06", 6, labels.FromStrings("cluster", "eu", "replica", "b"), hourly(from))
				}
				reg := prometheus.NewRegistry()
				args := []string{"--compact.verify=" + mode, "--deduplication.func=penalty", "--deduplication.replica-label=replica"}
				c, err := compact.New(config(t, args...), compact.Deps{Bucket: b, Logger: slog.New(slog.DiscardHandler), Registerer: reg})
				require.NoError(t, err)
				require.ErrorContains(t, c.RunOnce(t.Context()), `series {__name__="odd"}, chunk 2: `)
				bad := blocktest.ID("a06")
				require.Equal(t, map[string]string{bad.String(): d.want}, quarantined(t, reg))
				marks := poll(t, b).NoCompact
				require.Len(t, marks, 1)
				require.Contains(t, marks[bad].Details, `series {__name__="odd"}, chunk 2: `)
				require.Contains(t, strings.Join(live(t, b), "\n"), "0..6h res=0 level=2")
				require.NoError(t, c.RunOnce(t.Context()), "the block is not tried again")
			})
		}
	}
}

// shorter returns a chunk that announces ten samples more than it has.
func shorter(t testing.TB, c chunkenc.Chunk) chunkenc.Chunk {
	t.Helper()
	data := c.Bytes()
	data[1] += 10
	return c
}

// Old versions of Prometheus removed deleted samples from a chunk and kept its times in the
// index, also where no sample was left. Such blocks are merged, and the chunks without
// samples are not in the result.
func TestMerge_TakesChunksWithoutSamples(t *testing.T) {
	for _, overlap := range []bool{false, true} {
		b := bucket.NewMemory()
		ext := labels.FromStrings("cluster", "eu")
		for h := int64(0); h < 12; h += 2 {
			chks := hourly(h * 3_600_000)
			switch h {
			case 2:
				chks[0].Chunk = chunkenc.NewXORChunk()
				chks[1].Chunk = floatsAt(times(chks[1].MinTime+1_200_000, 20)...)
			case 4:
				chks[0].Chunk, chks[1].Chunk = chunkenc.NewHistogramChunk(), chunkenc.NewXORChunk()
			}
			putSeries(t, b, fmt.Sprintf("a%02d", h), h, ext, chks)
			if overlap && h < 8 {
				putSeries(t, b, fmt.Sprintf("b%02d", h), h, ext, chks)
			}
		}
		before := map[sample]bool{}
		for _, s := range content(t, b)[`{cluster="eu"}{__name__="odd"}`] {
			before[s] = true
		}
		require.Equal(t, 6*120-120-100, len(before))
		c := newCompactor(t, b)
		require.NoError(t, c.RunOnce(t.Context()))
		require.Contains(t, strings.Join(live(t, b), "\n"), "0..8h res=0")
		after := content(t, b)[`{cluster="eu"}{__name__="odd"}`]
		require.Equal(t, len(before), len(after))
		for _, s := range after {
			require.True(t, before[s])
		}
		for id, m := range poll(t, b).Metas {
			if m.Compaction.Level == 1 {
				continue
			}
			each(t, b, id, func(_ labels.Labels, chks []chunks.Meta) {
				for _, c := range chks {
					require.NotZero(t, c.Chunk.NumSamples())
				}
			})
		}
	}
}

// A result says that all its chunks were decoded, so that the next merge need not; without
// full verification it does not say so.
func TestMerge_MarksCheckedBlocks(t *testing.T) {
	for mode, want := range map[string]bool{"sample": false, "full": true, "none": false} {
		b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`))
		require.NoError(t, newCompactor(t, b, "--compact.verify="+mode).RunOnce(t.Context()))
		merged := 0
		for _, m := range poll(t, b).Metas {
			require.Equal(t, want && m.Compaction.Level > 1, m.Checked())
			if m.Compaction.Level > 1 {
				merged++
			}
		}
		require.Equal(t, 1, merged)
	}
}

// Without verification a merge that has to decode a damaged chunk blames its block as well.
func TestMerge_BlamesUndecodableBlockWithoutVerification(t *testing.T) {
	b := bucket.NewMemory()
	ext := labels.FromStrings("cluster", "eu")
	bad := hourly(0)
	bad[0].Chunk = shorter(t, bad[0].Chunk)
	putSeries(t, b, "a00", 0, ext, bad)
	putSeries(t, b, "b00", 0, ext, hourly(0))
	reg := prometheus.NewRegistry()
	c, err := compact.New(config(t, "--compact.verify=none"), compact.Deps{Bucket: b, Logger: slog.New(slog.DiscardHandler), Registerer: reg})
	require.NoError(t, err)
	require.ErrorContains(t, c.RunOnce(t.Context()), `series {__name__="odd"}, chunk 1: `)
	require.Equal(t, map[string]string{blocktest.ID("a00").String(): "chunk_corrupt"}, quarantined(t, reg))
}
