package compact

import (
	"context"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/blockmerge"
)

// mergeStats are the statistics of a downsampling.
type mergeStats struct {
	block tsdb.BlockStats
	// read counts the samples of the inputs.
	read uint64
}

// mergeBlocks writes the series of all inputs into the new directory dest, each once,
// in order, and gives each segment to out. It copies chunks that do not overlap others
// of their series.
func (c *Compactor) mergeBlocks(ctx context.Context, dest string, inputs []input, out *block.Publication) (blockmerge.Result, error) {
	sources := make([]blockmerge.Source, len(inputs))
	for i, n := range sourcesOf(inputs, c.cfg.ringLabels()) {
		sources[i] = blockmerge.Source{Meta: inputs[i].meta, Number: n}
	}
	read := readSamples(ctx)
	return blockmerge.Merge(ctx, c.bkt, sources, blockmerge.Output{Dir: dest, Segments: out}, blockmerge.Config{
		Func:     c.cfg.dedupFunc(),
		Progress: func(samples uint64) { read.Add(samples) },
	})
}

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
