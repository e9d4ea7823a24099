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

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/block/segments"
	"github.com/hindsight-io/hindsight/pkg/columnchunk"
)

// Write writes the columns object of the block in the local directory dir, which was
// verified, to w, in many small writes. Its memory is that of the labels of the largest metric,
// twice. Metrics with other chunks than those of floats, and those beyond the bounds of the
// format, are left out; series without a metric too. The same block gives the same bytes. An
// error, also of a directory that is too large, leaves a part of an object in w.
func Write(ctx context.Context, w io.Writer, dir string) (_ Object, err error) {
	ir, err := index.NewFileReader(filepath.Join(dir, "index"), index.DecodePostingsRaw)
	if err != nil {
		return Object{}, fmt.Errorf("open the index for columns: %w", err)
	}
	defer func() { err = errors.Join(err, ir.Close()) }()
	cr, err := segments.Open(filepath.Join(dir, "chunks"))
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
	chunks *segments.Files

	positions, entries []byte

	encoder columnchunk.Encoder
	encoded []byte
	metas   []chunks.Meta
	out     []Chunk
	piece   []byte
	values  []string
	segment indexEncoder
	indexes []byte
	builder labels.ScratchBuilder
}

// source is a series to be written.
type source struct {
	ref storage.SeriesRef
	key string
}

// errLeftOut says that the object cannot have a metric.
var errLeftOut = errors.New("the metric is left out")

func (w *writer) write(b []byte) error {
	n, err := w.w.Write(b)
	w.pos += int64(n)
	return err
}

// run writes one metric after the other, then the directory.
func (w *writer) run(ctx context.Context) (Object, error) {
	if err := w.write([]byte(magic)); err != nil {
		return Object{}, err
	}
	names, err := w.index.SortedLabelValues(ctx, model.MetricNameLabel, nil)
	if err != nil {
		return Object{}, fmt.Errorf("read the names of metrics for columns: %w", err)
	}
	for _, name := range names {
		m, err := w.metric(ctx, name)
		if errors.Is(err, errLeftOut) {
			m, err = &Metric{LeftOut: true}, nil
		}
		if err != nil {
			return Object{}, fmt.Errorf("write columns of %s: %w", name, err)
		}
		w.positions = binary.LittleEndian.AppendUint32(w.positions, uint32(len(w.entries)))
		if w.entries = appendMetric(w.entries, name, m); len(w.entries) > maxPlain {
			break
		}
	}
	plain := binary.LittleEndian.AppendUint32(nil, uint32(len(names)))
	plain = append(append(plain, w.positions...), w.entries...)
	directory := pack(nil, plain)
	if len(plain) > maxPlain || len(directory) > maxDirectory {
		return Object{}, fmt.Errorf("write columns: the directory of %d metrics is too large", len(names))
	}
	if w.pos+int64(len(directory)) > align { // otherwise all is in one page
		if err := w.write(make([]byte, (align-w.pos%align)%align)); err != nil {
			return Object{}, err
		}
	}
	if err := w.write(directory); err != nil {
		return Object{}, err
	}
	return newObject(int64(len(directory)), w.pos), nil
}

// metric writes the series of a metric. It returns errLeftOut when the object cannot have
// them; the bytes that it has written then have no meaning.
func (w *writer) metric(ctx context.Context, name string) (*Metric, error) {
	refs, lsets, err := w.series(ctx, name)
	if err != nil {
		return nil, err
	}
	m := &Metric{Chunks: Span{w.pos, w.pos}}
	series, ok := m.arrange(refs, lsets)
	if !ok {
		return nil, errLeftOut
	}
	w.indexes = w.indexes[:0]
	for begin := 0; begin < len(series); begin += segmentSeries {
		part := series[begin:min(begin+segmentSeries, len(series))]
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s := Segment{Series: len(part), Chunks: Span{w.pos, 0}}
		if begin > 0 {
			s.from = separator(series[begin-1].key, part[0].key)
		}
		if err := w.chunksOf(part); err != nil {
			return nil, err
		}
		s.Chunks.End = w.pos
		start := len(w.indexes)
		w.indexes = pack(w.indexes, w.segment.b)
		s.Index = Span{0, int64(len(w.indexes) - start)}
		m.Segments = append(m.Segments, s)
	}
	return m, w.write(w.indexes)
}

// series reads the labels of the series of a metric from the index. Their chunks are read
// when they are written: those of all would take more memory than the labels.
func (w *writer) series(ctx context.Context, name string) (refs []storage.SeriesRef, lsets []labels.Labels, err error) {
	p, err := w.index.Postings(ctx, model.MetricNameLabel, name)
	if err != nil {
		return nil, nil, err
	}
	for p.Next() {
		if err := w.index.Series(p.At(), &w.builder, nil); err != nil {
			return nil, nil, err
		}
		lset := w.builder.Labels()
		if !fits(lset) {
			return nil, nil, errLeftOut
		}
		refs, lsets = append(refs, p.At()), append(lsets, lset)
	}
	return refs, lsets, p.Err()
}

// arrange sorts the series. It returns false when they have too many labels or segments, or
// when two of them have the same labels.
func (m *Metric) arrange(refs []storage.SeriesRef, lsets []labels.Labels) (series []source, ok bool) {
	m.Constant, m.Order = arrange(lsets)
	size := 0
	for _, l := range m.Constant {
		size += len(l.Name) + len(l.Value)
	}
	for _, name := range m.Order {
		size += len(name)
	}
	if len(m.Constant)+len(m.Order) > maxLabels || size > maxLabelBytes || len(refs) > maxSegments*segmentSeries {
		return nil, false
	}
	series = make([]source, len(refs))
	var key []byte
	for i := range series {
		key = appendKey(key[:0], lsets[i], m.Order)
		series[i] = source{refs[i], string(key)}
	}
	slices.SortFunc(series, func(a, b source) int { return strings.Compare(a.key, b.key) })
	for i := 1; i < len(series); i++ {
		if series[i].key == series[i-1].key {
			return nil, false
		}
	}
	return series, true
}

// chunksOf writes the chunks of the series of a segment, and encodes its index.
func (w *writer) chunksOf(part []source) error {
	w.segment.reset()
	for _, s := range part {
		if err := w.encode(s); err != nil {
			return err
		}
		if err := w.write(w.piece); err != nil {
			return err
		}
		w.values = w.values[:0]
		for rest := s.key; rest != ""; {
			var v string
			v, rest, _ = strings.Cut(rest, end)
			w.values = append(w.values, v)
		}
		w.segment.add(w.values, int64(len(w.piece)))
	}
	return nil
}

// encode encodes the chunks of a series.
func (w *writer) encode(s source) error {
	if err := w.index.Series(s.ref, &w.builder, &w.metas); err != nil {
		return err
	}
	if len(w.metas) > maxChunks {
		return errLeftOut
	}
	w.out, w.encoded = w.out[:0], w.encoded[:0]
	for _, meta := range w.metas {
		chk, _, err := w.chunks.Chunk(meta.Ref)
		if err != nil {
			return err
		}
		c := Chunk{MinTime: meta.MinTime, MaxTime: meta.MaxTime, Encoding: chk.Encoding, Bytes: chk.Bytes}
		if !isFloats(c.Encoding) {
			return errLeftOut
		}
		start := len(w.encoded)
		// Many integers and constants take less in a chunk of a TSDB.
		if b, ok := w.encoder.AppendChunk(w.encoded, c.Encoding, c.Bytes); ok && len(b)-start < len(c.Bytes) {
			w.encoded, c.Encoding, c.Bytes = b, columnchunk.Encoding, b[start:len(b):len(b)]
		}
		w.out = append(w.out, c)
	}
	if w.piece = appendChunks(w.piece[:0], w.out); len(w.piece) > maxPiece {
		return errLeftOut
	}
	return nil
}
