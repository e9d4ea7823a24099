package headblock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// tempSuffix marks the directory of a block that is being written. Prometheus and this
// program ignore such directories.
const tempSuffix = ".tmp-for-creation"

// segmentBytes returns the size to which a segment of chunks grows: what the head may
// need, within bounds. The writer allocates all of it at once on the disk.
func segmentBytes(head int64) int64 {
	size := int64(1 << 20)
	for size < head && size < chunks.DefaultChunkSegmentSize/2 {
		size *= 2
	}
	return size
}

// blockWriter writes the block of one window.
type blockWriter struct {
	dir    string
	chunks *chunks.Writer
	index  *index.Writer
	meta   block.Meta
	next   storage.SeriesRef
}

// newBlockWriter makes the directory of a block and writes the symbols.
func newBlockWriter(ctx context.Context, cfg *Config, window int64, symbols []string) (w *blockWriter, err error) {
	w = &blockWriter{dir: filepath.Join(cfg.Dir, fmt.Sprintf("window-%d%s", window, tempSuffix))}
	if err := os.RemoveAll(w.dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(w.dir, 0o777); err != nil {
		return nil, err
	}
	if w.chunks, err = chunks.NewWriter(filepath.Join(w.dir, block.ChunksDir), chunks.WithSegmentSize(segmentBytes(cfg.Source.Size()))); err != nil {
		return nil, err
	}
	if w.index, err = index.NewWriter(ctx, filepath.Join(w.dir, block.IndexFile)); err != nil {
		return nil, errors.Join(err, w.chunks.Close())
	}
	for _, s := range symbols {
		if err := w.index.AddSymbol(s); err != nil {
			return nil, errors.Join(err, w.abort())
		}
	}
	return w, nil
}

// add appends a series, which must come after all others in the order of labels.
func (w *blockWriter) add(l labels.Labels, chks []chunks.Meta) error {
	if err := w.chunks.WriteChunks(chks...); err != nil {
		return fmt.Errorf("write chunks: %w", err)
	}
	if err := w.index.AddSeries(w.next, l, chks...); err != nil {
		return fmt.Errorf("write series: %w", err)
	}
	s := &w.meta.Stats
	if s.NumSeries == 0 {
		w.meta.MinTime, w.meta.MaxTime = chks[0].MinTime, chks[0].MaxTime+1
	}
	w.meta.MinTime = min(w.meta.MinTime, chks[0].MinTime)
	w.meta.MaxTime = max(w.meta.MaxTime, chks[len(chks)-1].MaxTime+1)
	s.NumSeries++
	s.NumChunks += uint64(len(chks))
	for _, c := range chks {
		n := uint64(c.Chunk.NumSamples())
		s.NumSamples += n
		if c.Chunk.Encoding() == chunkenc.EncXOR {
			s.NumFloatSamples += n
		} else {
			s.NumHistogramSamples += n
		}
	}
	w.next++
	return nil
}

// finish completes the block and gives it its name. meta.json is written last.
func (w *blockWriter) finish(cfg *Config) (*block.Meta, string, error) {
	if err := errors.Join(w.chunks.Close(), w.index.Close()); err != nil {
		return nil, "", errors.Join(fmt.Errorf("complete block: %w", err), os.RemoveAll(w.dir))
	}
	m := &w.meta
	id, err := contentID(w.dir, cfg.ExternalLabels, m.MaxTime)
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("name block: %w", err), os.RemoveAll(w.dir))
	}
	m.ULID, m.Version = id, 1
	m.Compaction.Level = 1
	m.Compaction.Sources = []ulid.ULID{m.ULID}
	m.Thanos.Labels = cfg.ExternalLabels.Map()
	m.Thanos.Source = cfg.Origin
	if err := block.WriteMetaDir(w.dir, m); err != nil {
		return nil, "", fmt.Errorf("write meta.json of block %s: %w", m.ULID, err)
	}
	dir := filepath.Join(cfg.Dir, m.ULID.String())
	if err := os.RemoveAll(dir); err != nil {
		return nil, "", err
	}
	if err := os.Rename(w.dir, dir); err != nil {
		return nil, "", fmt.Errorf("name block %s: %w", m.ULID, err)
	}
	return m, dir, nil
}

// abort removes the block.
func (w *blockWriter) abort() error {
	return errors.Join(w.chunks.Close(), w.index.Close(), os.RemoveAll(w.dir))
}
