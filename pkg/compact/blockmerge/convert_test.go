package blockmerge_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact/blockmerge"
	"github.com/hindsight-io/hindsight/pkg/compact/downsample"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// coarser downsamples the series of a block one by one, and leaves out those of which
// nothing remains.
func coarser(t testing.TB, list []blocktest.Series, from, to int64) []blocktest.Series {
	t.Helper()
	d, pool := downsample.New(from, to), aggr.NewPool()
	var out []blocktest.Series
	for _, s := range list {
		got, err := d.Series(s.Chunks)
		require.NoError(t, err)
		kept := blocktest.Series{Labels: s.Labels}
		for _, c := range got {
			chk, err := pool.Get(c.Chunk.Encoding(), slices.Clone(c.Chunk.Bytes()))
			require.NoError(t, err)
			kept.Chunks = append(kept.Chunks, chunks.Meta{MinTime: c.MinTime, MaxTime: c.MaxTime, Chunk: chk})
		}
		if len(kept.Chunks) > 0 {
			out = append(out, kept)
		}
	}
	return out
}

// TestMerge_ConvertsSeries downsamples blocks with series of all kinds to 5m and those to
// 1h, with any number of workers and small buffers. The files have the bytes that
// Prometheus's writers make of series that are downsampled one by one.
func TestMerge_ConvertsSeries(t *testing.T) {
	for seed := range uint64(2) {
		r := rand.New(rand.NewPCG(seed, 21))
		b := bucket.NewMemory()
		list, from := randomBlock(t, r, 0, 9_000_000), block.ResolutionRaw
		for _, to := range []int64{block.Resolution5m, block.Resolution1h} {
			m, _ := put(t, b, fmt.Sprint(from), 0, 9_000_000, list, seed == 1)
			list = coarser(t, list, from, to)
			want := filepath.Join(t.TempDir(), "want")
			require.NoError(t, blocktest.Write(context.Background(), want, &block.Meta{}, list))
			for _, cfg := range []blockmerge.Config{{Workers: 1}, {Workers: 4, Memory: 1}, {Limits: blockmerge.Limits{Index: 64 << 20, Section: 64 << 20}}} {
				cfg.Convert = func() func([]chunks.Meta) ([]chunks.Meta, error) { return downsample.New(from, to).Series }
				var read uint64
				cfg.Progress = func(n uint64) { read += n }
				got, res := into(t, b, []blockmerge.Source{{Meta: m}}, cfg)
				requireSameFiles(t, want, got)
				require.Equal(t, m.Stats.NumSamples, read)
				require.Equal(t, uint64(len(list)), res.Stats.NumSeries)
			}
			from = to
		}
	}
}

// TestMerge_ConvertBlamesTheSource has functions that fail, panic, and take every chunk
// away.
func TestMerge_ConvertBlamesTheSource(t *testing.T) {
	b := bucket.NewMemory()
	r := rand.New(rand.NewPCG(1, 22))
	m, _ := put(t, b, "a", 0, 7200_000, randomBlock(t, r, 0, 7200_000), false)
	sources := []blockmerge.Source{{Meta: m}}
	convert := func(f func([]chunks.Meta) ([]chunks.Meta, error)) ([]blockmerge.Result, error) {
		return blockmerge.Merge(context.Background(), b, sources, to(filepath.Join(t.TempDir(), "out")), blockmerge.Config{
			Convert: func() func([]chunks.Meta) ([]chunks.Meta, error) { return f },
		})
	}
	fails := func(f func([]chunks.Meta) ([]chunks.Meta, error), why reason.Reason, text string) {
		t.Helper()
		_, err := convert(f)
		var bad *block.CorruptError
		require.ErrorAs(t, err, &bad)
		require.Equal(t, m.ULID, bad.ID)
		require.Equal(t, why, bad.Reason)
		require.ErrorContains(t, err, text)
	}
	histogram := func(list []chunks.Meta) bool { return list[0].Chunk.Encoding() == chunkenc.EncHistogram }
	fails(func(list []chunks.Meta) ([]chunks.Meta, error) {
		if histogram(list) {
			return nil, errors.New("it is odd")
		}
		return list, nil
	}, reason.BlockChunkCorrupt, `series {__name__="m`)
	fails(func(list []chunks.Meta) ([]chunks.Meta, error) {
		if histogram(list) {
			panic("index out of range")
		}
		return list, nil
	}, reason.BlockIndexCorrupt, "decoder failed: index out of range")
	res, err := convert(func([]chunks.Meta) ([]chunks.Meta, error) { return nil, nil })
	require.NoError(t, err)
	require.Zero(t, res[0].Stats)
	sources = append(sources, sources[0])
	_, err = convert(nil)
	require.ErrorContains(t, err, "it must be one")
}
