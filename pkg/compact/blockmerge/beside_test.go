package blockmerge_test

import (
	"path/filepath"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact/blockcheck"
	"github.com/hindsight-io/hindsight/pkg/compact/blockmerge"
	"github.com/hindsight-io/hindsight/pkg/compact/downsample"
	"github.com/hindsight-io/hindsight/pkg/dedup"
)

// The second block of a merge is compared with the result too: one that lacks a chunk is not
// made, and the merge goes on.
func TestCheck_FindsFaultsOfTheSecondBlock(t *testing.T) {
	for _, fault := range []bool{false, true} {
		b := bucket.NewMemory()
		dir, made := t.TempDir(), false
		beside := &blockmerge.Beside{
			Convert: func() func([]chunks.Meta) ([]chunks.Meta, error) {
				d := downsample.New(block.ResolutionRaw, block.Resolution5m)
				return func(in []chunks.Meta) ([]chunks.Meta, error) {
					out, err := d.Series(in)
					if fault && !made && len(out) > 0 {
						out, made = out[:len(out)-1], true
					}
					return out, err
				}
			},
			Create: func() blockmerge.Output { return to(filepath.Join(dir, "second"))(0, 1) },
			Check:  blockcheck.New(blockcheck.Config{Mode: blockcheck.Full, Resolution: block.Resolution5m}),
		}
		cfg := blockmerge.Config{Func: dedup.FuncCoverage, Workers: 1, SegmentSize: 100_000, Memory: 1 << 20, Beside: beside}
		_, err := blockmerge.Merge(t.Context(), b, randomSources(t, b, 1, 1), to(filepath.Join(dir, "out")), cfg)
		require.NoError(t, err)
		require.Equal(t, fault, made)
		if !fault {
			require.NoError(t, beside.Err)
			require.NotZero(t, beside.Result.Stats.NumSamples)
			continue
		}
		require.ErrorIs(t, beside.Err, blockcheck.ErrMismatch)
		require.Zero(t, beside.Result.Stats.NumSamples)
	}
}
