package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// point is a sample; a histogram has its text, and the number of its observations as value.
type point struct {
	t    int64
	v    float64
	hist string
}

// bucketContent is what a bucket has: its blocks that are not marked for deletion, described,
// and the samples of the raw ones by external labels and series, in order of time.
type bucketContent struct {
	blocks  []string
	samples map[string][]point
}

// replicaLabel is removed by the compactors of these tests.
const replicaLabel = "replica"

// contentOf reads a bucket whose objects are the files of dir. Each block must be complete and
// sound (I4), and nothing else may be there but directories that orphan accepts.
func contentOf(t *testing.T, dir string, orphan func(ulid.ULID) bool) *bucketContent {
	t.Helper()
	c := &bucketContent{samples: map[string][]point{}}
	for _, id := range dirsOf(t, dir) {
		path := filepath.Join(dir, id.String())
		m, err := block.ReadMetaDir(path)
		if err != nil {
			if files := filesBelow(t, path); len(files) > 0 {
				require.True(t, orphan != nil && orphan(id), "I4: %s has %s, and no meta.json: %v", id, files, err)
			}
			continue
		}
		_, err = block.Verify(context.Background(), path)
		require.NoError(t, err, "I4: block %s", id)
		for _, f := range m.Thanos.Files {
			info, err := os.Stat(filepath.Join(path, filepath.FromSlash(f.RelPath)))
			require.NoError(t, err, "I4: block %s", id)
			require.True(t, f.SizeBytes == 0 || info.Size() == f.SizeBytes, "I4: %s of block %s has %d bytes instead of %d", f.RelPath, id, info.Size(), f.SizeBytes)
		}
		if _, err := os.Stat(filepath.Join(path, block.DeletionMarkFile)); err == nil {
			continue
		}
		ext := labels.NewBuilder(m.ExternalLabels()).Del(replicaLabel).Labels().String()
		c.blocks = append(c.blocks, fmt.Sprintf("%d..%dh res=%d samples=%d series=%d %s", m.MinTime/hour, m.MaxTime/hour,
			m.Resolution()/60_000, m.Stats.NumSamples, m.Stats.NumSeries, m.ExternalLabels()))
		if m.Resolution() == block.ResolutionRaw {
			eachSeries(t, path, func(l labels.Labels, chks []chunks.Meta) {
				for _, chk := range chks {
					c.samples[ext+l.String()] = append(c.samples[ext+l.String()], pointsOf(t, chk.Chunk.Iterator(nil))...)
				}
			})
		}
	}
	slices.Sort(c.blocks)
	for _, list := range c.samples {
		slices.SortStableFunc(list, func(a, b point) int { return int(a.t - b.t) })
	}
	return c
}

func filesBelow(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			out = append(out, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted meanwhile
		}
		return err
	})
	require.NoError(t, err)
	return out
}

func pointsOf(t *testing.T, it chunkenc.Iterator) (out []point) {
	t.Helper()
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ == chunkenc.ValFloat {
			at, v := it.At()
			out = append(out, point{t: at, v: v})
			continue
		}
		at, h := it.AtFloatHistogram(nil)
		out = append(out, point{t: at, v: h.Count, hist: h.String()})
	}
	require.NoError(t, it.Err())
	return out
}

// eachSeries calls f for each series of a block.
func eachSeries(t *testing.T, dir string, f func(labels.Labels, []chunks.Meta)) {
	t.Helper()
	ix, err := index.NewFileReader(filepath.Join(dir, block.IndexFile), index.DecodePostingsRaw)
	require.NoError(t, err)
	defer ix.Close()
	cr, err := chunks.NewDirReader(filepath.Join(dir, block.ChunksDir), aggr.NewPool())
	require.NoError(t, err)
	defer cr.Close()
	all, err := ix.Postings(context.Background(), "", "")
	require.NoError(t, err)
	var builder labels.ScratchBuilder
	for all.Next() {
		var chks []chunks.Meta
		require.NoError(t, ix.Series(all.At(), &builder, &chks))
		for i := range chks {
			chks[i].Chunk, _, err = cr.ChunkOrIterable(chks[i])
			require.NoError(t, err)
		}
		f(builder.Labels(), chks)
	}
	require.NoError(t, all.Err())
}

// withoutCopies has each sample that several replicas have once.
func (c *bucketContent) withoutCopies() map[string][]point {
	out := map[string][]point{}
	for key, list := range c.samples {
		out[key] = slices.Compact(slices.Clone(list))
	}
	return out
}

// requirePreserved checks I5: the raw samples are those from before, each once; 5m and 1h data
// is what these give.
func requirePreserved(t *testing.T, dir string, before map[string][]point, orphan func(ulid.ULID) bool) {
	t.Helper()
	after := contentOf(t, dir, orphan)
	for key, want := range before {
		got := after.samples[key]
		require.True(t, slices.Equal(want, got), "I5: %s has %d samples instead of %d, or others; blocks: %s", key, len(got), len(want), strings.Join(after.blocks, "\n"))
	}
	require.Len(t, after.samples, len(before))
	requireRecomputed(t, dir, before)
}

// window is what the raw samples of a window give.
type window struct {
	t                    int64 // its last millisecond
	count, sum, min, max float64
	grown                float64 // since the first sample of the block
}

// windowsOf recomputes the windows of a resolution from raw samples of a block.
func windowsOf(raw []point, mint, maxt, resolution int64) (out []window) {
	grown, last := 0.0, math.NaN()
	for _, p := range raw {
		if p.t < mint || p.t >= maxt {
			continue
		}
		switch {
		case math.IsNaN(last):
		case p.v < last:
			grown += p.v
		default:
			grown += p.v - last
		}
		last = p.v
		end := p.t/resolution*resolution + resolution - 1
		if len(out) == 0 || out[len(out)-1].t != end {
			out = append(out, window{t: end, min: math.Inf(1), max: math.Inf(-1)})
		}
		w := &out[len(out)-1]
		w.count++
		w.sum += p.v
		w.min, w.max, w.grown = math.Min(w.min, p.v), math.Max(w.max, p.v), grown
	}
	return out
}

// requireRecomputed compares all downsampled blocks with raw samples.
func requireRecomputed(t *testing.T, dir string, raw map[string][]point) {
	t.Helper()
	for _, id := range dirsOf(t, dir) {
		path := filepath.Join(dir, id.String())
		m, err := block.ReadMetaDir(path)
		if err != nil || m.Resolution() == block.ResolutionRaw {
			continue
		}
		ext := labels.NewBuilder(m.ExternalLabels()).Del(replicaLabel).Labels().String()
		series := 0
		eachSeries(t, path, func(l labels.Labels, chks []chunks.Meta) {
			series++
			list := raw[ext+l.String()]
			requireWindows(t, windowsOf(list, m.MinTime, m.MaxTime, m.Resolution()), chks, len(list) > 0 && list[0].hist == "",
				fmt.Sprintf("I5: block %s of resolution %d, %s", id, m.Resolution(), l))
		})
		require.Positive(t, series)
	}
}

// requireWindows compares the aggregates of a series. Of a histogram only the number of its
// samples is compared.
func requireWindows(t *testing.T, want []window, chks []chunks.Meta, floats bool, what string) {
	t.Helper()
	var all [4][]point
	var counters []storeapi.Data
	for _, c := range chks {
		a, err := aggr.Decode(c.Chunk.Bytes())
		require.NoError(t, err)
		for i, d := range []storeapi.Data{a.Count, a.Sum, a.Min, a.Max} {
			if i > 0 && !floats {
				break
			}
			chk, err := chunkenc.FromData(d.Encoding, d.Bytes)
			require.NoError(t, err)
			all[i] = append(all[i], pointsOf(t, chk.Iterator(nil))...)
		}
		counters = append(counters, a.Counter)
	}
	require.Len(t, all[0], len(want), what)
	grown := map[int64]float64{}
	first := math.NaN()
	for _, p := range pointsOf(t, aggr.NewCounterIterator(counters)) {
		if math.IsNaN(first) {
			first = p.v
		}
		grown[p.t] = p.v - first
	}
	for i, w := range want {
		at := all[0][i].t
		require.True(t, at <= w.t && at > w.t-block.Resolution1h, what) // the last window may end with its last sample
		require.Equal(t, w.count, all[0][i].v, "%s: count at %d", what, at)
		if floats {
			require.Equal(t, [3]float64{w.sum, w.min, w.max}, [3]float64{all[1][i].v, all[2][i].v, all[3][i].v}, "%s: sum, min, max at %d", what, at)
			require.Equal(t, w.grown, grown[at], "%s: growth at %d", what, at)
		}
	}
}
