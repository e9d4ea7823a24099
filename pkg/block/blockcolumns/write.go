package blockcolumns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/columnchunk"
)

// Write writes the columns object of the block in the local directory dir, which was
// verified, to w. Its memory is that of the labels of the largest metric. Metrics with other
// chunks than those of floats, and series without a metric, are left out.
func Write(ctx context.Context, w io.Writer, dir string) (_ Object, err error) {
	ir, err := index.NewFileReader(filepath.Join(dir, "index"), index.DecodePostingsRaw)
	if err != nil {
		return Object{}, fmt.Errorf("open the index for columns: %w", err)
	}
	defer func() { err = errors.Join(err, ir.Close()) }()
	cr, err := chunks.NewDirReader(filepath.Join(dir, "chunks"), nil)
	if err != nil {
		return Object{}, fmt.Errorf("open the chunks for columns: %w", err)
	}
	defer func() { err = errors.Join(err, cr.Close()) }()
	wr := &writer{w: w, index: ir, chunks: cr}
	return wr.run(ctx)
}

// writer writes an object from its begin to its end.
type writer struct {
	w      io.Writer
	pos    int64
	index  *index.Reader
	chunks *chunks.Reader

	positions, entries []byte

	encoder columnchunk.Encoder
	encoded []byte
	out     []Chunk
	piece   []byte
	segment indexEncoder
	builder labels.ScratchBuilder
}

// source is a series to be written.
type source struct {
	lset   labels.Labels
	key    string
	chunks []chunks.Meta
}

func (w *writer) write(b []byte) error {
	n, err := w.w.Write(b)
	w.pos += int64(n)
	return err
}

func (w *writer) run(ctx context.Context) (Object, error) {
	if err := w.write([]byte(magic)); err != nil {
		return Object{}, err
	}
	names, err := w.index.SortedLabelValues(ctx, labels.MetricName, nil)
	if err != nil {
		return Object{}, fmt.Errorf("read the names of metrics for columns: %w", err)
	}
	for _, name := range names {
		m, err := w.metric(ctx, name)
		if err != nil {
			return Object{}, fmt.Errorf("write columns of %s: %w", name, err)
		}
		w.positions = binary.LittleEndian.AppendUint32(w.positions, uint32(len(w.entries)))
		w.entries = appendMetric(w.entries, name, m)
	}
	plain := binary.LittleEndian.AppendUint32(nil, uint32(len(names)))
	plain = append(append(plain, w.positions...), w.entries...)
	directory := pack(nil, plain)
	if len(plain) > maxPlain || len(directory) > maxDirectory {
		return Object{}, fmt.Errorf("write columns: a directory of %d bytes for %d metrics is too large", len(plain), len(names))
	}
	if err := w.write(make([]byte, align-w.pos%align)); err != nil {
		return Object{}, err
	}
	if err := w.write(directory); err != nil {
		return Object{}, err
	}
	return newObject(int64(len(directory)), w.pos), nil
}

// metric writes the series of a metric.
func (w *writer) metric(ctx context.Context, name string) (*Metric, error) {
	series, err := w.series(ctx, name)
	if err != nil {
		return nil, err
	}
	m := &Metric{Chunks: Span{w.pos, w.pos}}
	if ok, err := w.floats(series); err != nil || !ok {
		return &Metric{LeftOut: true}, err
	}
	if !m.arrange(series) {
		return &Metric{LeftOut: true}, nil
	}
	var indexes []byte
	var values []string
	for begin := 0; begin < len(series); begin += segmentSeries {
		part := series[begin:min(begin+segmentSeries, len(series))]
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s := Segment{Series: len(part), Chunks: Span{w.pos, 0}}
		if begin > 0 {
			s.from = separator(series[begin-1].key, part[0].key)
		}
		w.segment.reset()
		for i := range part {
			if err := w.chunksOf(&part[i]); err != nil {
				return nil, err
			}
			if err := w.write(w.piece); err != nil {
				return nil, err
			}
			values = values[:0]
			for _, name := range m.Order {
				values = append(values, part[i].lset.Get(name))
			}
			w.segment.add(values, int64(len(w.piece)))
		}
		s.Chunks.End = w.pos
		start := len(indexes)
		indexes = pack(indexes, w.segment.b)
		s.Index = Span{0, int64(len(indexes) - start)}
		m.Segments = append(m.Segments, s)
	}
	return m, w.write(indexes)
}

// series reads the series of a metric from the index.
func (w *writer) series(ctx context.Context, name string) ([]source, error) {
	p, err := w.index.Postings(ctx, labels.MetricName, name)
	if err != nil {
		return nil, err
	}
	var out []source
	for p.Next() {
		var chks []chunks.Meta
		if err := w.index.Series(p.At(), &w.builder, &chks); err != nil {
			return nil, err
		}
		out = append(out, source{lset: w.builder.Labels(), chunks: chks})
	}
	return out, p.Err()
}

// floats says whether all chunks are chunks of floats.
func (w *writer) floats(series []source) (bool, error) {
	for _, s := range series {
		for _, c := range s.chunks {
			chk, _, err := w.chunks.ChunkOrIterable(c)
			if err != nil {
				return false, err
			}
			if enc := chk.Encoding(); enc != chunkenc.EncXOR && enc != chunkenc.EncXOR2 {
				return false, nil
			}
		}
	}
	return true, nil
}

// arrange sorts the series. It returns false when they have too many labels, values that are
// too long, or such that keys cannot tell apart.
func (m *Metric) arrange(series []source) bool {
	lsets := make([]labels.Labels, len(series))
	for i, s := range series {
		lsets[i] = s.lset
	}
	m.Constant, m.Order = arrange(lsets)
	if len(m.Constant)+len(m.Order) >= maxLabels {
		return false
	}
	for i := range series {
		key, ok := keyOf(series[i].lset, m.Order)
		if !ok || len(key) > maxKey {
			return false
		}
		series[i].key = key
	}
	slices.SortFunc(series, func(a, b source) int { return strings.Compare(a.key, b.key) })
	return true
}

// chunksOf encodes the chunks of a series.
func (w *writer) chunksOf(s *source) error {
	w.out, w.encoded = w.out[:0], w.encoded[:0]
	for _, meta := range s.chunks {
		chk, _, err := w.chunks.ChunkOrIterable(meta)
		if err != nil {
			return err
		}
		c := Chunk{MinTime: meta.MinTime, MaxTime: meta.MaxTime, Encoding: chk.Encoding(), Bytes: chk.Bytes()}
		start := len(w.encoded)
		if b, ok := w.encoder.AppendChunk(w.encoded, c.Encoding, c.Bytes); ok {
			w.encoded, c.Encoding, c.Bytes = b, columnchunk.Encoding, b[start:len(b):len(b)]
		}
		w.out = append(w.out, c)
	}
	w.piece = appendChunks(w.piece[:0], w.out)
	if len(w.piece) > maxPiece {
		return fmt.Errorf("the chunks of series %s have %d bytes", s.lset, len(w.piece))
	}
	return nil
}
