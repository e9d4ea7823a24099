package compact

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// A shard without samples is published like any other: while one of a set is missing, the
// planner takes the set for the rest of a merge that did not end, and neither merges nor
// downsamples the others. See plan.shardSet.

// keptEmpty says whether the result of a block is published although it has no samples.
func keptEmpty(m *block.Meta) bool { return m.Shard().Count > 0 }

// writeEmptyIndex writes the index of a block without series into a directory.
func writeEmptyIndex(ctx context.Context, dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, block.ChunksDir), 0o777); err != nil {
		return fmt.Errorf("make directory of an empty shard: %w", err)
	}
	w, err := index.NewWriter(ctx, filepath.Join(dir, block.IndexFile))
	if err != nil {
		return fmt.Errorf("write index of an empty shard: %w", err)
	}
	return w.Close()
}
