package compact

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
)

// blockWriter writes index and chunks of a block, series by series in order of their
// labels. The caller writes meta.json.
type blockWriter struct {
	index  *index.Writer
	chunks *chunks.Writer
	stats  tsdb.BlockStats
}

// newBlockWriter creates dir. symbols must have the symbols of all series.
func newBlockWriter(ctx context.Context, dir string, symbols index.StringIter) (*blockWriter, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("create directory of a new block: %w", err)
	}
	cw, err := chunks.NewWriter(filepath.Join(dir, block.ChunksDir))
	if err != nil {
		return nil, fmt.Errorf("create chunks of a new block: %w", err)
	}
	iw, err := index.NewWriter(ctx, filepath.Join(dir, block.IndexFile))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create index of a new block: %w", err), cw.Close())
	}
	w := &blockWriter{index: iw, chunks: cw}
	for symbols.Next() {
		if err := iw.AddSymbol(symbols.At()); err != nil {
			return nil, errors.Join(fmt.Errorf("write symbols of a new block: %w", err), w.Close())
		}
	}
	if err := symbols.Err(); err != nil {
		return nil, errors.Join(fmt.Errorf("read symbols for a new block: %w", err), w.Close())
	}
	return w, nil
}

// Close completes both files.
func (w *blockWriter) Close() error { return errors.Join(w.index.Close(), w.chunks.Close()) }

// series writes one series, unless it has no chunks, and sets the references of the
// chunks.
func (w *blockWriter) series(lset labels.Labels, chks []chunks.Meta) error {
	if len(chks) == 0 {
		return nil
	}
	if err := w.chunks.WriteChunks(chks...); err != nil {
		return fmt.Errorf("write chunks of series %s: %w", lset, err)
	}
	if err := w.index.AddSeries(storage.SeriesRef(w.stats.NumSeries), lset, chks...); err != nil {
		return fmt.Errorf("write series %s: %w", lset, err)
	}
	w.stats.NumSeries++
	w.stats.NumChunks += uint64(len(chks))
	for i := range chks {
		n := uint64(chks[i].Chunk.NumSamples())
		w.stats.NumSamples += n
		switch chks[i].Chunk.Encoding() {
		case chunkenc.EncXOR, chunkenc.EncXOR2:
			w.stats.NumFloatSamples += n
		case aggr.Encoding:
		default:
			w.stats.NumHistogramSamples += n
		}
	}
	return nil
}
