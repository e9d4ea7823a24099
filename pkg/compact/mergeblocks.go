package compact

import (
	"context"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/compact/blockcheck"
	"github.com/hindsight-io/hindsight/pkg/compact/blockmerge"
	"github.com/hindsight-io/hindsight/pkg/limit"
)

// mergeBlocks merges the inputs into outputs that create makes: one, or several if the
// index of one would be too large. check, unless it is nil, verifies them.
func (c *Compactor) mergeBlocks(ctx context.Context, inputs []input, check *blockcheck.Checker, create func(number, count int) blockmerge.Output, beside *blockmerge.Beside) ([]blockmerge.Result, error) {
	sources := make([]blockmerge.Source, len(inputs))
	for i, n := range sourcesOf(inputs, c.cfg.ringLabels()) {
		sources[i] = blockmerge.Source{Meta: inputs[i].meta, Number: n}
	}
	cfg := c.mergeConfig(ctx)
	cfg.Func, cfg.Beside, cfg.Check = c.cfg.dedupFunc(), beside, check
	if n := c.cfg.MaxIndexSize.Int64(); n > 0 {
		cfg.Limits.Index = min(cfg.Limits.Index, n)
	}
	return blockmerge.Merge(ctx, c.bkt, sources, create, cfg)
}

// mergeConfig has the bounds of a merge or downsampling.
func (c *Compactor) mergeConfig(ctx context.Context) blockmerge.Config {
	read := readSamples(ctx)
	cfg := blockmerge.Config{
		FS: c.fs, Limits: blockmerge.FormatLimits(), Memory: c.cfg.MergeMemory.Int64(),
		Progress: func(samples uint64) { read.Add(samples) },
	}
	if n := c.cfg.DiskBudget.Int64(); n > 0 {
		// One segment is written while each of the others is uploaded, or waits for that.
		cfg.SegmentSize = min(max(n/2/int64(c.cfg.FilesConcurrency+1), minSegment), chunks.DefaultChunkSegmentSize)
		cfg.Disk = n / 2
		cfg.Exceeded = fmt.Errorf("%w: it needs more than %d bytes of the work directory, half of --compact.disk-budget; raise that", limit.ErrExceeded, n/2)
	}
	return cfg
}

// minSegment is the smallest size of a segment that a disk budget gives.
const minSegment = 1 << 20

// sourcesOf numbers the sources of the blocks, in the order of their external
// labels, so that the same replica is preferred in every merge. Labels of ring
// make no difference.
func sourcesOf(inputs []input, ring []string) []int {
	keys := make([]string, len(inputs))
	for i, in := range inputs {
		keys[i] = labels.NewBuilder(in.meta.ExternalLabels()).Del(ring...).Labels().String()
	}
	distinct := slices.Compact(slices.Sorted(slices.Values(keys)))
	out := make([]int, len(inputs))
	for i, k := range keys {
		out[i], _ = slices.BinarySearch(distinct, k)
	}
	return out
}
