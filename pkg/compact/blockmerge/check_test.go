package blockmerge_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact/blockcheck"
	"github.com/hindsight-io/hindsight/pkg/compact/blockmerge"
	"github.com/hindsight-io/hindsight/pkg/dedup"
)

// checkedMerge merges, uploads the files of the result as they are, lets change alter
// them, and verifies.
func checkedMerge(t testing.TB, b bucket.Bucket, sources []blockmerge.Source, mode blockcheck.Mode, cfg blockmerge.Config, change func(*block.Meta)) error { //nolint:unparam // for tests that alter the result
	t.Helper()
	cfg.Check = blockcheck.New(blockcheck.Config{Mode: mode, Func: cfg.Func})
	cfg.SegmentSize, cfg.Memory = 100_000, 1<<20
	dir := filepath.Join(t.TempDir(), "out")
	results, err := blockmerge.Merge(context.Background(), b, sources, to(dir), cfg)
	if err != nil {
		return err
	}
	m := &block.Meta{}
	m.ULID = blocktest.ID("result")
	files, err := filepath.Glob(filepath.Join(dir, "chunks", "*"))
	require.NoError(t, err)
	for _, path := range append(files, filepath.Join(dir, "index")) {
		rel, err := filepath.Rel(dir, path)
		require.NoError(t, err)
		f, err := os.Open(path)
		require.NoError(t, err)
		info, err := f.Stat()
		require.NoError(t, err)
		require.NoError(t, b.Upload(context.Background(), block.Path(m.ULID, rel), f, info.Size()))
		require.NoError(t, f.Close())
		m.Thanos.Files = append(m.Thanos.Files, block.File{RelPath: filepath.ToSlash(rel), SizeBytes: info.Size()})
	}
	if change != nil {
		change(m)
	}
	return cfg.Check.Verify(context.Background(), b, []blockcheck.Result{{Meta: m, Dir: dir, ChunkMaxSize: results[0].ChunkMaxSize}})
}

// randomSources are blocks of one producer, some of which overlap, or of several.
func randomSources(t testing.TB, b bucket.Bucket, seed uint64, replicas int) (sources []blockmerge.Source) {
	r := rand.New(rand.NewPCG(seed, 77))
	if replicas > 1 {
		for i := range replicas {
			m, _ := put(t, b, fmt.Sprint("r", seed, i), 0, 7200_000, randomBlock(t, r, int64(i)*300, 7200_000), false)
			sources = append(sources, blockmerge.Source{Meta: m, Number: i})
		}
		return sources
	}
	for i := range int64(4) {
		mint := (i - r.Int64N(2)) * 7200_000
		m, _ := put(t, b, fmt.Sprint("s", seed, i), mint, mint+7200_000, randomBlock(t, r, mint, mint+7200_000), false)
		sources = append(sources, blockmerge.Source{Meta: m})
	}
	return sources
}

// TestCheck_AcceptsEverySoundMerge has no false alarm for floats, histograms, custom
// buckets and stale markers, of one producer and of replicas.
func TestCheck_AcceptsEverySoundMerge(t *testing.T) {
	for seed := range uint64(2) {
		for _, mode := range []blockcheck.Mode{blockcheck.Full, blockcheck.Sample} {
			b := bucket.NewMemory()
			for _, f := range []dedup.Func{dedup.FuncChain, dedup.FuncCoverage} {
				require.NoError(t, checkedMerge(t, b, randomSources(t, b, seed, 1), mode, blockmerge.Config{Func: f, Workers: 3}, nil), "seed %d", seed)
			}
			for _, replicas := range []int{2, 3} {
				require.NoError(t, checkedMerge(t, b, randomSources(t, b, seed, replicas), mode, blockmerge.Config{Func: dedup.FuncCoverage}, nil), "seed %d, %d replicas", seed, replicas)
			}
		}
	}
}

// TestCheck_FindsFaultsOfTheWriter forgets, invents and exchanges series and chunks.
func TestCheck_FindsFaultsOfTheWriter(t *testing.T) {
	for _, name := range blockmerge.WriterFaults() {
		for _, replicas := range []int{1, 3} {
			b := bucket.NewMemory()
			cfg := blockmerge.Config{Func: dedup.FuncCoverage, Workers: 1}
			made := cfg.BreakWritten(name)
			err := checkedMerge(t, b, randomSources(t, b, 1, replicas), blockcheck.Sample, cfg, nil)
			require.True(t, *made, name)
			require.Error(t, err, name)
			t.Log(name, ": ", err)
		}
	}
}

// reencode makes a chunk again from those samples for which keep gives true, with their
// values changed.
func reencode(t testing.TB, c chunks.Meta, keep func(i int) bool, change func(i int, v float64) float64) chunks.Meta {
	var list []chunks.Sample
	it := c.Chunk.Iterator(nil)
	for i := 0; ; i++ {
		typ := it.Next()
		if typ == chunkenc.ValNone {
			break
		}
		s := sample{}
		switch typ {
		case chunkenc.ValFloat:
			s.t, s.f = it.At()
			s.f = change(i, s.f)
		case chunkenc.ValHistogram:
			s.t, s.h = it.AtHistogram(nil)
			s.h.Sum = change(i, s.h.Sum)
		case chunkenc.ValFloatHistogram:
			s.t, s.fh = it.AtFloatHistogram(nil)
			s.fh.Sum = change(i, s.fh.Sum)
		}
		if keep(i) {
			list = append(list, s)
		}
	}
	out, err := chunks.ChunkFromSamples(list)
	require.NoError(t, err)
	return out
}

// TestCheck_FindsFaultsOfTheMerger drops and changes samples of merged series of each
// encoding, of blocks of one producer and of replicas.
func TestCheck_FindsFaultsOfTheMerger(t *testing.T) {
	all, same := func(int) bool { return true }, func(_ int, v float64) float64 { return v }
	faults := map[string]func(chunks.Meta) chunks.Meta{
		"drop a sample": func(c chunks.Meta) chunks.Meta { return reencode(t, c, func(i int) bool { return i != 3 }, same) },
		"change a value": func(c chunks.Meta) chunks.Meta {
			return reencode(t, c, all, func(i int, v float64) float64 {
				if i == 4 {
					v++
				}
				return v
			})
		},
	}
	for name, fault := range faults {
		for _, enc := range []chunkenc.Encoding{chunkenc.EncXOR, chunkenc.EncHistogram, chunkenc.EncFloatHistogram} {
			for _, mode := range []blockcheck.Mode{blockcheck.Full, blockcheck.Sample} {
				for _, replicas := range []int{1, 3} {
					b := bucket.NewMemory()
					var made atomic.Bool
					cfg := blockmerge.Config{Func: dedup.FuncCoverage, Workers: 1}
					cfg.BreakMerged(func(out []chunks.Meta) []chunks.Meta {
						for i, c := range out {
							if c.Chunk.Encoding() == enc && c.Chunk.NumSamples() > 10 && !made.Swap(true) {
								out = append([]chunks.Meta{}, out...)
								out[i] = fault(c)
								break
							}
						}
						return out
					})
					err := checkedMerge(t, b, randomSources(t, b, 2, replicas), mode, cfg, nil)
					require.True(t, made.Load())
					require.ErrorIs(t, err, blockcheck.ErrMismatch, "%s, %s, %d replicas", name, enc, replicas)
					require.ErrorContains(t, err, "sample at", "%s, %s, %d replicas", name, enc, replicas)
				}
			}
		}
	}
}
