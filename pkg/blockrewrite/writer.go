package blockrewrite

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

// writer writes index and chunks of a block, series by series in order of their labels.
type writer struct {
	index  *index.Writer
	chunks *chunks.Writer
	series storage.SeriesRef
}

// newWriter creates dir. symbols are those of all series.
func newWriter(ctx context.Context, dir string, symbols index.StringIter) (*writer, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("create directory of a rewritten block: %w", err)
	}
	cw, err := chunks.NewWriter(filepath.Join(dir, block.ChunksDir))
	if err != nil {
		return nil, fmt.Errorf("create chunks of a rewritten block: %w", err)
	}
	iw, err := index.NewWriter(ctx, filepath.Join(dir, block.IndexFile))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create index of a rewritten block: %w", err), cw.Close())
	}
	w := &writer{index: iw, chunks: cw}
	for symbols.Next() {
		if err := iw.AddSymbol(symbols.At()); err != nil {
			return nil, errors.Join(fmt.Errorf("write symbols of a rewritten block: %w", err), w.Close())
		}
	}
	if err := symbols.Err(); err != nil {
		return nil, errors.Join(fmt.Errorf("read symbols for a rewritten block: %w", err), w.Close())
	}
	return w, nil
}

// Close completes both files.
func (w *writer) Close() error { return errors.Join(w.index.Close(), w.chunks.Close()) }

// add writes a series with at least one chunk, and sets the references of the chunks.
func (w *writer) add(lset labels.Labels, chks []chunks.Meta) error {
	if err := w.chunks.WriteChunks(chks...); err != nil {
		return fmt.Errorf("write chunks of series %s: %w", lset, err)
	}
	if err := w.index.AddSeries(w.series, lset, chks...); err != nil {
		return fmt.Errorf("write series %s: %w", lset, err)
	}
	w.series++
	return nil
}

// count adds a series to the statistics of a block.
func count(stats *tsdb.BlockStats, chks []chunks.Meta) {
	if len(chks) == 0 {
		return
	}
	stats.NumSeries++
	stats.NumChunks += uint64(len(chks))
	for i := range chks {
		n := uint64(chks[i].Chunk.NumSamples())
		stats.NumSamples += n
		switch chks[i].Chunk.Encoding() {
		case chunkenc.EncXOR, chunkenc.EncXOR2:
			stats.NumFloatSamples += n
		case aggr.Encoding:
		default:
			stats.NumHistogramSamples += n
		}
	}
}
