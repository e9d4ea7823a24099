package blockmerge

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// indexed is an index to be written.
type indexed struct {
	symbols []string
	series  []labels.Labels
	chunks  [][]chunks.Meta
}

func randomIndex(r *rand.Rand, n int) indexed {
	var ix indexed
	seen := map[string]bool{}
	for len(ix.series) < n {
		l := labels.FromStrings("__name__", fmt.Sprint("m", r.IntN(20)), "a", fmt.Sprint(r.IntN(n)), "job", strings.Repeat("j", r.IntN(5)))
		if seen[l.String()] {
			continue
		}
		seen[l.String()] = true
		ix.series = append(ix.series, l)
	}
	slices.SortFunc(ix.series, labels.Compare)
	all := map[string]bool{}
	ref := uint64(8)
	for _, l := range ix.series {
		l.Range(func(l labels.Label) { all[l.Name], all[l.Value] = true, true })
		var chks []chunks.Meta
		t := r.Int64N(1000) - 500
		for range 1 + r.IntN(4) {
			c := chunks.Meta{MinTime: t, MaxTime: t + r.Int64N(1e6), Ref: chunks.ChunkRef(ref)}
			t, ref = c.MaxTime+1+r.Int64N(1e5), ref+uint64(r.IntN(300))
			chks = append(chks, c)
		}
		ix.chunks = append(ix.chunks, chks)
	}
	for s := range all {
		ix.symbols = append(ix.symbols, s)
	}
	slices.Sort(ix.symbols)
	return ix
}

// write writes the index with an indexWriter.
func (ix indexed) write(path string, limits Limits, memory int) (err error) {
	w, err := newIndexWriter(vfs.OS(), path, limits, memory)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := w.Close(); err == nil {
			err = cerr
		}
	}()
	for _, s := range ix.symbols {
		if err := w.addSymbol([]byte(s)); err != nil {
			return err
		}
	}
	if err := w.endSymbols(); err != nil {
		return err
	}
	for i, l := range ix.series {
		var nums []uint32
		l.Range(func(l labels.Label) {
			for _, s := range []string{l.Name, l.Value} {
				n, _ := slices.BinarySearch(ix.symbols, s)
				nums = append(nums, uint32(n))
			}
		})
		var chks []outChunk
		for _, c := range ix.chunks[i] {
			chks = append(chks, outChunk{mint: c.MinTime, maxt: c.MaxTime, ref: uint64(c.Ref)})
		}
		if err := w.addSeries(nums, chks); err != nil {
			return err
		}
	}
	return w.finish()
}

// TestIndexWriter_EqualsPrometheus writes the same bytes as Prometheus's writer, with
// postings in memory, and in runs.
func TestIndexWriter_EqualsPrometheus(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 7))
		ix := randomIndex(r, 1+r.IntN(800))
		dir := t.TempDir()
		pw, err := index.NewWriter(context.Background(), filepath.Join(dir, "prometheus"))
		require.NoError(t, err)
		for _, s := range ix.symbols {
			require.NoError(t, pw.AddSymbol(s))
		}
		for i, l := range ix.series {
			require.NoError(t, pw.AddSeries(storage.SeriesRef(i), l, ix.chunks[i]...))
		}
		require.NoError(t, pw.Close())
		want, err := os.ReadFile(filepath.Join(dir, "prometheus"))
		require.NoError(t, err)
		for _, memory := range []int{1 << 20, 2000, 200} {
			require.NoError(t, ix.write(filepath.Join(dir, "index"), FormatLimits(), memory))
			got, err := os.ReadFile(filepath.Join(dir, "index"))
			require.NoError(t, err)
			require.True(t, string(want) == string(got), "seed %d, memory %d", seed, memory)
		}
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, left, 2, "temporary files")
	}
}

// TestIndexWriter_RefusesMoreThanFormat stops before an offset could overflow.
func TestIndexWriter_RefusesMoreThanFormat(t *testing.T) {
	ix := randomIndex(rand.New(rand.NewPCG(1, 7)), 500)
	for _, limits := range []Limits{{Index: 10_000, Section: 1 << 20}, {Index: 1 << 20, Section: 1000}, {Index: 1 << 20, Section: 2800}} {
		require.ErrorIs(t, ix.write(filepath.Join(t.TempDir(), "index"), limits, 1<<20), errTooLarge)
	}
	require.NoError(t, ix.write(filepath.Join(t.TempDir(), "index"), Limits{Index: 1 << 20, Section: 1 << 20}, 1<<20))
}
