package downsample

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
)

// ErrEmpty says that the block has no samples that could be downsampled.
var ErrEmpty = errors.New("nothing to downsample")

// Config says what Block does.
type Config struct {
	// Source is the directory of a verified block.
	Source string
	// Dest is the directory to make the new block in; it must not exist. After
	// an error it may hold a part of a block, without meta.json.
	Dest string
	// ID is the ULID of the new block.
	ID ulid.ULID
	// Resolution of the new block in milliseconds, coarser than the source's.
	Resolution int64
}

// Result is what Block made.
type Result struct {
	Meta *block.Meta
	// Samples is the number of samples, or of windows, that were read.
	Samples uint64
}

// Block writes the block that holds the data of the source in a coarser
// resolution. It has the time range, the labels and the lineage of the source.
func Block(ctx context.Context, cfg Config) (*Result, error) {
	src, err := block.ReadMetaDir(cfg.Source)
	if err != nil {
		return nil, err
	}
	if src.Resolution() >= cfg.Resolution {
		return nil, fmt.Errorf("downsample block %s: it has a resolution of %d ms already, wanted are %d", src.ULID, src.Resolution(), cfg.Resolution)
	}
	r, err := openReader(cfg.Source)
	if err != nil {
		return nil, fmt.Errorf("open block %s: %w", src.ULID, err)
	}
	res, err := write(ctx, cfg, src, r)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("downsample block %s: %w", src.ULID, err)
	}
	return res, nil
}

// newMeta is that of the source, but for what is new.
func newMeta(src *block.Meta, cfg Config, stats tsdb.BlockStats) *block.Meta {
	m := src.Clone()
	m.ULID = cfg.ID
	m.Stats = stats
	m.Thanos.Downsample.Resolution = cfg.Resolution
	m.Thanos.Source = block.SourceCompactor
	m.Thanos.SegmentFiles, m.Thanos.Files = nil, nil
	m.Thanos.IndexStats = block.IndexStats{}
	return m
}

// reader reads the series of a block in order.
type reader struct {
	index  *index.Reader
	chunks *chunks.Reader
}

func openReader(dir string) (*reader, error) {
	ir, err := index.NewFileReader(filepath.Join(dir, block.IndexFile), index.DecodePostingsRaw)
	if err != nil {
		return nil, err
	}
	cr, err := chunks.NewDirReader(filepath.Join(dir, block.ChunksDir), aggr.NewPool())
	if err != nil {
		return nil, errors.Join(err, ir.Close())
	}
	return &reader{index: ir, chunks: cr}, nil
}

func (r *reader) Close() error { return errors.Join(r.index.Close(), r.chunks.Close()) }

// load fills in the chunks of the metas. Their bytes are mapped memory.
func (r *reader) load(chks []chunks.Meta) error {
	for i := range chks {
		c, _, err := r.chunks.ChunkOrIterable(chks[i])
		if err != nil {
			return fmt.Errorf("read chunk %d of %d: %w", i+1, len(chks), err)
		}
		chks[i].Chunk = c
	}
	return nil
}

// writer writes index and chunks of a block.
type writer struct {
	index  *index.Writer
	chunks *chunks.Writer
	stats  tsdb.BlockStats
}

func newWriter(ctx context.Context, dir string) (*writer, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	cw, err := chunks.NewWriter(filepath.Join(dir, block.ChunksDir))
	if err != nil {
		return nil, err
	}
	iw, err := index.NewWriter(ctx, filepath.Join(dir, block.IndexFile))
	if err != nil {
		return nil, errors.Join(err, cw.Close())
	}
	return &writer{index: iw, chunks: cw}, nil
}

func (w *writer) Close() error { return errors.Join(w.index.Close(), w.chunks.Close()) }

func (w *writer) symbols(it index.StringIter) error {
	for it.Next() {
		if err := w.index.AddSymbol(it.At()); err != nil {
			return err
		}
	}
	return it.Err()
}

func (w *writer) series(lset labels.Labels, chks []chunks.Meta) error {
	if err := w.chunks.WriteChunks(chks...); err != nil {
		return err
	}
	if err := w.index.AddSeries(storage.SeriesRef(w.stats.NumSeries), lset, chks...); err != nil {
		return err
	}
	w.stats.NumSeries++
	w.stats.NumChunks += uint64(len(chks))
	for i := range chks {
		w.stats.NumSamples += uint64(chks[i].Chunk.NumSamples())
	}
	return nil
}

func write(ctx context.Context, cfg Config, src *block.Meta, r *reader) (res *Result, err error) {
	w, err := newWriter(ctx, cfg.Dest)
	if err != nil {
		return nil, err
	}
	d := &series{from: src.Resolution(), resolution: cfg.Resolution}
	err = copySeries(ctx, r, w, d)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	if w.stats.NumSeries == 0 {
		return nil, ErrEmpty
	}
	m := newMeta(src, cfg, w.stats)
	return &Result{Meta: m, Samples: d.samples}, block.WriteMetaDir(cfg.Dest, m)
}

// copySeries downsamples one series after the other.
func copySeries(ctx context.Context, r *reader, w *writer, d *series) error {
	if err := w.symbols(r.index.Symbols()); err != nil {
		return fmt.Errorf("copy symbols: %w", err)
	}
	all, err := r.index.Postings(ctx, "", "")
	if err != nil {
		return fmt.Errorf("list series: %w", err)
	}
	var (
		builder labels.ScratchBuilder
		chks    []chunks.Meta
	)
	for n := 0; all.Next(); n++ {
		if n%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := r.index.Series(all.At(), &builder, &chks); err != nil {
			return fmt.Errorf("read series %d: %w", all.At(), err)
		}
		lset := builder.Labels()
		if err := r.load(chks); err != nil {
			return fmt.Errorf("series %s: %w", lset, err)
		}
		out, err := d.run(chks)
		if err != nil {
			return fmt.Errorf("series %s: %w", lset, err)
		}
		if len(out) == 0 {
			continue
		}
		if err := w.series(lset, out); err != nil {
			return fmt.Errorf("write series %s: %w", lset, err)
		}
	}
	return all.Err()
}
