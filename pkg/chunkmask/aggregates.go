package chunkmask

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// aggregates returns the chunk of the kept windows, none if all are deleted.
func (m *masker) aggregates(a *storeapi.Aggregates) ([]storeapi.Chunk, error) {
	out := storeapi.Chunk{Aggr: &storeapi.Aggregates{Resolution: a.Resolution}, MinTime: math.MaxInt64, MaxTime: math.MinInt64}
	for _, p := range []struct {
		name    string
		in, out *storeapi.Data
		counter bool
	}{
		{"count", &a.Count, &out.Aggr.Count, false},
		{"sum", &a.Sum, &out.Aggr.Sum, false},
		{"min", &a.Min, &out.Aggr.Min, false},
		{"max", &a.Max, &out.Aggr.Max, false},
		{"counter", &a.Counter, &out.Aggr.Counter, true},
	} {
		if len(p.in.Bytes) == 0 {
			continue
		}
		var (
			kept       []byte
			mint, maxt int64
			err        error
		)
		switch {
		case p.in.Encoding == chunkenc.EncFloatHistogram:
			kept, mint, maxt, err = m.histograms(*p.in)
		case p.in.Encoding == chunkenc.EncXOR && p.counter:
			kept, mint, maxt, err = m.counter(*p.in)
		case p.in.Encoding == chunkenc.EncXOR:
			kept, mint, maxt, err = m.floats(*p.in)
		default:
			err = fmt.Errorf("encoding %s is not that of an aggregate", p.in.Encoding)
		}
		if err != nil {
			return nil, fmt.Errorf("aggregate %s: %w", p.name, err)
		}
		if kept == nil {
			continue
		}
		*p.out = storeapi.Data{Encoding: p.in.Encoding, Bytes: kept}
		// The first raw value of a counter has a time before the end of its window.
		if !p.counter || out.MinTime > out.MaxTime {
			out.MinTime, out.MaxTime = min(out.MinTime, mint), max(out.MaxTime, maxt)
		}
	}
	if out.MinTime > out.MaxTime {
		return nil, nil
	}
	return []storeapi.Chunk{out}, nil
}

// floats keeps the windows of count, sum, minimum or maximum.
func (m *masker) floats(d storeapi.Data) (kept []byte, mint, maxt int64, err error) {
	ts, vs, err := m.read(d)
	if err != nil {
		return nil, 0, 0, err
	}
	n := 0
	for i, t := range ts {
		if !m.isDeleted(t) {
			ts[n], vs[n] = t, vs[i]
			n++
		}
	}
	return encode(ts[:n], vs[:n])
}

// read returns the samples of a chunk of floats.
func (m *masker) read(d storeapi.Data) (ts []int64, vs []float64, err error) {
	it := aggr.DataIterator(d)
	for it.Next() != chunkenc.ValNone {
		t, v := it.At()
		ts, vs = append(ts, t), append(vs, v)
	}
	return ts, vs, it.Err()
}

func encode(ts []int64, vs []float64) (b []byte, mint, maxt int64, err error) {
	if len(ts) == 0 {
		return nil, 0, 0, nil
	}
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	if err != nil {
		return nil, 0, 0, err
	}
	for i, t := range ts {
		app.Append(0, t, vs[i])
	}
	return c.Bytes(), ts[0], ts[len(ts)-1], nil
}

// counter keeps the windows of a counter of floats, which begins with the first raw
// value and ends with the last one. The value before resets of a counter is not known
// within a chunk. Where the window of the last raw value is deleted, its place takes
// the value of the last kept window; if the chunk has resets, at most the first value
// of the next chunk, so that the reader does not take the fall for another reset.
func (m *masker) counter(d storeapi.Data) (kept []byte, mint, maxt int64, err error) {
	ts, vs, err := m.read(d)
	if err != nil {
		return nil, 0, 0, err
	}
	last, resets := math.NaN(), true
	end := len(ts)
	if end > 1 && ts[end-1] == ts[end-2] {
		last, resets = vs[end-1], vs[end-1] != vs[end-2]
		end--
	}
	lastDeleted := end > 0 && m.isDeleted(ts[end-1])
	firstDeleted := end > 0 && m.isDeleted(ts[0])
	n := 0
	for i := range end {
		if !m.isDeleted(ts[i]) {
			ts[n], vs[n] = ts[i], vs[i]
			n++
		}
	}
	ts, vs = ts[:n:n], vs[:n:n]
	if n == 0 {
		return nil, 0, 0, nil
	}
	if lastDeleted || math.IsNaN(last) {
		last = vs[n-1]
		if resets && m.hasNext {
			last = min(last, m.next)
		}
	}
	mint, maxt = ts[0], ts[n-1]
	if firstDeleted {
		ts, vs = append([]int64{ts[0]}, ts...), append([]float64{vs[0]}, vs...)
	}
	m.next, m.hasNext = vs[0], true
	b, _, _, err := encode(append(ts, maxt), append(vs, last))
	return b, mint, maxt, err
}

// keep remembers the first counter of a chunk that stays as it is.
func (m *masker) keep(a *storeapi.Aggregates) {
	m.hasNext = false
	if a.Counter.Encoding != chunkenc.EncXOR || len(a.Counter.Bytes) == 0 {
		return
	}
	if it := aggr.DataIterator(a.Counter); it.Next() == chunkenc.ValFloat {
		_, m.next = it.At()
		m.hasNext = true
	}
}

// histograms keeps the windows of a sum or counter of native histograms. A header that
// says that the first one follows a restart is about a sample that may be deleted; the
// result then says that the values are raw.
func (m *masker) histograms(d storeapi.Data) (kept []byte, mint, maxt int64, err error) {
	m.hasNext = false
	header := aggr.CounterResetHeader(d)
	c := chunkenc.NewFloatHistogramChunk()
	app, err := c.Appender()
	if err != nil {
		return nil, 0, 0, err
	}
	it := aggr.DataIterator(d)
	n, deletedFirst := 0, false
	for it.Next() != chunkenc.ValNone {
		t, h := it.AtFloatHistogram(&histogram.FloatHistogram{})
		if m.isDeleted(t) {
			deletedFirst = deletedFirst || n == 0
			continue
		}
		// A gauge, because nothing may cut the chunk; the header is set below.
		h.CounterResetHint = histogram.GaugeType
		next, _, _, err := app.AppendFloatHistogram(nil, 0, t, h, true)
		if err != nil {
			return nil, 0, 0, err
		}
		if next != nil {
			return nil, 0, 0, fmt.Errorf("histogram at %d does not continue its chunk: %w", t, aggr.ErrCorrupt)
		}
		if n == 0 {
			mint = t
		}
		maxt = t
		n++
	}
	if err := it.Err(); err != nil || n == 0 {
		return nil, 0, 0, err
	}
	if header == chunkenc.CounterReset && deletedFirst {
		header = chunkenc.NotCounterReset
	}
	out := storeapi.Data{Encoding: chunkenc.EncFloatHistogram, Bytes: c.Bytes()}
	aggr.SetCounterResetHeader(out, header)
	return out.Bytes, mint, maxt, nil
}
