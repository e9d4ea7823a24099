package blockmerge_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact/blockmerge"
	"github.com/hindsight-io/hindsight/pkg/compact/downsample"
	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/vfs"
	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

// smallSources are two blocks that overlap.
func smallSources(t *testing.T, b bucket.Bucket) (sources []blockmerge.Source) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range int64(2) {
		m, _ := put(t, b, fmt.Sprint("d", i), 300_000*i, 300_000*i+600_000, randomBlock(t, r, 300_000*i, 300_000*i+600_000), false)
		sources = append(sources, blockmerge.Source{Meta: m})
	}
	return sources
}

// Each write, read and other operation of a merge on its work directory fails once, or from
// then on. The merge ends with that error, leaves no file open, and succeeds afterwards in
// the same directory.
func TestMerge_FailsWithTheDisk(t *testing.T) {
	b := bucket.NewMemory()
	sources := smallSources(t, b)
	cfg := blockmerge.Config{Func: dedup.FuncCoverage, Workers: 2, SegmentSize: 4_000, Memory: 4 << 10}
	want := filepath.Join(t.TempDir(), "out")
	_, err := blockmerge.Merge(t.Context(), b, sources, to(want), cfg)
	require.NoError(t, err)
	failed := map[string]bool{}
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		dir := filepath.Join(t.TempDir(), "out")
		cfg := cfg
		cfg.FS = fsys.CountReads().FailWith(syscall.ENOSPC)
		_, err := blockmerge.Merge(t.Context(), b, sources, to(dir), cfg)
		if fsys.Failed() == "" {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, faultfs.ErrInjected)
			require.ErrorIs(t, err, syscall.ENOSPC)
			operation, _, _ := strings.Cut(fsys.Failed(), " (")
			failed[operation] = true
		}
		require.Zero(t, fsys.OpenFiles())
		cfg.FS = nil
		_, err = blockmerge.Merge(t.Context(), b, sources, to(dir), cfg)
		require.NoError(t, err)
		requireSameFiles(t, want, dir)
	})
	require.Equal(t, map[string]bool{"make directory": true, "create": true, "write to": true, "read from": true, "remove": true}, failed)
}

// onlyBelow is the file system of the operating system, and another one below a directory.
type onlyBelow struct {
	vfs.FS
	below vfs.FS
	dir   string
}

func (o onlyBelow) of(name string) vfs.FS {
	if strings.HasPrefix(name, o.dir) {
		return o.below
	}
	return o.FS
}

func (o onlyBelow) Create(name string) (vfs.File, error) { return o.of(name).Create(name) }
func (o onlyBelow) Remove(name string) error             { return o.of(name).Remove(name) }
func (o onlyBelow) MkdirAll(name string, perm fs.FileMode) error {
	return o.of(name).MkdirAll(name, perm)
}

// A disk that fails for the second block of a merge alone ends that one: the first is as
// without it.
func TestMerge_GoesOnWhenTheDiskFailsForTheSecondBlock(t *testing.T) {
	b := bucket.NewMemory()
	sources := smallSources(t, b)
	want := filepath.Join(t.TempDir(), "out")
	cfg := blockmerge.Config{Func: dedup.FuncCoverage, Workers: 2, Memory: 4 << 10}
	_, err := blockmerge.Merge(t.Context(), b, sources, to(want), cfg)
	require.NoError(t, err)
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		dir := t.TempDir()
		beside := &blockmerge.Beside{
			Convert: func() func([]chunks.Meta) ([]chunks.Meta, error) {
				return downsample.New(block.ResolutionRaw, block.Resolution5m).Series
			},
			Create: func() blockmerge.Output { return to(filepath.Join(dir, "second"))(0, 1) },
		}
		cfg := cfg
		cfg.Beside = beside
		cfg.FS = onlyBelow{FS: vfs.OS(), below: fsys.CountReads().FailWith(syscall.EIO), dir: filepath.Join(dir, "second")}
		_, err := blockmerge.Merge(t.Context(), b, sources, to(filepath.Join(dir, "out")), cfg)
		require.NoError(t, err)
		require.Zero(t, fsys.OpenFiles())
		requireSameFiles(t, want, filepath.Join(dir, "out"))
		if fsys.Failed() == "" {
			require.NoError(t, beside.Err)
			require.NotZero(t, beside.Result.Stats.NumSamples)
			return
		}
		require.ErrorIs(t, beside.Err, faultfs.ErrInjected)
		require.Zero(t, beside.Result.Stats.NumSamples)
	})
}
