package tsdbimport

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/headblock"
)

// Config says what Import reads and where it writes.
type Config struct {
	Input Input
	// Dir is the directory for the blocks, and WorkDir that for the samples of windows on
	// the way; empty means the directory for temporary files.
	Dir, WorkDir string
	// ExternalLabels are written to meta.json.
	ExternalLabels labels.Labels
	// Memory bounds the memory in bytes of labels, and that of the samples of a block.
	// MemoryFlag is the flag that sets it, for the error.
	Memory     int64
	MemoryFlag string
	// Progress is called after each block, with the number of all.
	Progress func(done, total int)
}

// Report is the result of Import.
type Report struct {
	// Blocks are ordered by time; Dirs are their directories.
	Blocks []*block.Meta
	Dirs   []string
	// Series is the number of series, Read that of the samples of the input. Stored is
	// smaller than Read if the input has more than one sample of a series at one time; the
	// first that came in order stays.
	Series, Read, Stored uint64
}

// Import writes the samples of the input as blocks, each within a window of two hours.
// Samples may come in any order. The same input gives the same blocks, with the same
// names. Samples of a NaN or stale marker are kept.
func Import(ctx context.Context, cfg Config) (_ *Report, err error) {
	work, err := os.MkdirTemp(cfg.WorkDir, "hindsight-import-")
	if err != nil {
		return nil, fmt.Errorf("make work directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	s := newSpill(work, cfg.Memory, cfg.MemoryFlag)
	if err := cfg.Input.Each(ctx, s.add); err != nil {
		return nil, fmt.Errorf("read the input: %w", err)
	}
	if err := s.finish(); err != nil {
		return nil, fmt.Errorf("write the samples of a window: %w", err)
	}
	r := &Report{Series: uint64(len(s.series)), Read: s.read}
	s.series, s.byHash, s.last = nil, nil, nil
	starts := slices.Sorted(maps.Keys(s.windows))
	for i, start := range starts {
		w := s.windows[start]
		made, err := headblock.Write(ctx, headblock.Config{
			Source: w, Dir: cfg.Dir, MinTime: math.MinInt64, ExternalLabels: cfg.ExternalLabels,
			Memory: cfg.Memory, MemoryFlag: cfg.MemoryFlag, Origin: block.SourceBucketUpload,
		})
		if err != nil {
			return nil, err
		}
		if made.Loss.Places > 0 || made.UnknownSamples > 0 {
			return nil, fmt.Errorf("samples of the window from %d were lost: %s, %d without a series", start, made.Loss.First, made.UnknownSamples)
		}
		for j, m := range made.Blocks {
			r.Stored += m.Stats.NumSamples
			r.Blocks, r.Dirs = append(r.Blocks, m), append(r.Dirs, made.Dirs[j])
		}
		if err := os.Remove(w.path); err != nil {
			return nil, err
		}
		if cfg.Progress != nil {
			cfg.Progress(i+1, len(starts))
		}
	}
	return r, nil
}
