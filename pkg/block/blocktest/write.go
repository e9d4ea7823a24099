// Package blocktest builds small blocks and whole buckets for tests, from
// values or from a readable text.
package blocktest

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// Series is a series of a block with its chunks, in order of time.
type Series struct {
	Labels labels.Labels
	Chunks []chunks.Meta
}

// ID returns the ULID that the text language gives to a block called name: the
// same for every run, in the order of the names.
func ID(name string) ulid.ULID {
	var id ulid.ULID
	if err := id.SetTime(1_600_000_000_000); err != nil {
		panic("BUG: " + err.Error())
	}
	copy(id[6:], name)
	return id
}

// Write writes a complete block with meta.json, index and segments into dir.
// Series are sorted here. It fills in the statistics, version and, where they
// are missing, level and sources of m.
func Write(ctx context.Context, dir string, m *block.Meta, series []Series) error {
	slices.SortFunc(series, func(a, b Series) int { return labels.Compare(a.Labels, b.Labels) })
	if err := writeChunks(dir, m, series); err != nil {
		return fmt.Errorf("write chunks of %s: %w", m.ULID, err)
	}
	if err := writeIndex(ctx, dir, series); err != nil {
		return fmt.Errorf("write index of %s: %w", m.ULID, err)
	}
	complete(m)
	return block.WriteMetaDir(dir, m)
}

func complete(m *block.Meta) {
	m.Version = 1
	if m.Compaction.Level == 0 {
		m.Compaction.Level = 1
	}
	if len(m.Compaction.Sources) == 0 {
		m.Compaction.Sources = []ulid.ULID{m.ULID}
	}
}

// segmentSize bounds a segment, which the writer allocates as a whole before it writes: a
// file system in memory fills all of it with zeroes.
const segmentSize = 64 << 20

func writeChunks(dir string, m *block.Meta, series []Series) error {
	w, err := chunks.NewWriter(filepath.Join(dir, block.ChunksDir), chunks.WithSegmentSize(segmentSize))
	if err != nil {
		return err
	}
	for _, s := range series {
		if err := w.WriteChunks(s.Chunks...); err != nil {
			return err
		}
		m.Stats.NumSeries++
		for _, c := range s.Chunks {
			n := uint64(c.Chunk.NumSamples())
			m.Stats.NumChunks++
			m.Stats.NumSamples += n
			if c.Chunk.Encoding() == chunkenc.EncXOR || c.Chunk.Encoding() == chunkenc.EncXOR2 {
				m.Stats.NumFloatSamples += n
			} else {
				m.Stats.NumHistogramSamples += n
			}
		}
	}
	return w.Close()
}

func writeIndex(ctx context.Context, dir string, series []Series) error {
	w, err := index.NewWriter(ctx, filepath.Join(dir, block.IndexFile))
	if err != nil {
		return err
	}
	symbols := map[string]struct{}{}
	for _, s := range series {
		s.Labels.Range(func(l labels.Label) {
			// Labels may share one big string.
			symbols[strings.Clone(l.Name)], symbols[strings.Clone(l.Value)] = struct{}{}, struct{}{}
		})
	}
	for _, sym := range slices.Sorted(maps.Keys(symbols)) {
		if err := w.AddSymbol(sym); err != nil {
			return err
		}
	}
	for i, s := range series {
		if err := w.AddSeries(storage.SeriesRef(i), s.Labels, s.Chunks...); err != nil {
			return err
		}
	}
	return w.Close()
}
