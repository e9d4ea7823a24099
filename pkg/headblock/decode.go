package headblock

import (
	"context"
	"log/slog"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/hindsight-io/hindsight/pkg/headlog"
)

// sample is one sample of a log: h or fh, or the float v when both are nil.
type sample struct {
	ref chunks.HeadSeriesRef
	t   int64
	v   float64
	h   *histogram.Histogram
	fh  *histogram.FloatHistogram
}

// handler takes the content of the records of a log. A nil function skips the records
// of its kind without decoding them.
type handler struct {
	series  func([]record.RefSeries) error
	samples func(sample) error // of the ordinary log
	late    func(sample) error // of the log of out-of-order samples
	stones  func([]tombstones.Stone) error
}

// decoder reads a log through a handler. Its buffers are used again, so it serves one
// caller at a time.
type decoder struct {
	dec     record.Decoder
	series  []record.RefSeries
	floats  []record.RefSample
	hists   []record.RefHistogramSample
	fhists  []record.RefFloatHistogramSample
	stones  []tombstones.Stone
	damaged Loss
}

func newDecoder(logger *slog.Logger) *decoder {
	return &decoder{dec: record.NewDecoder(nil, logger)}
}

// read reads both logs. Records that cannot be decoded are part of the loss.
func (d *decoder) read(ctx context.Context, src Source, h handler) (Loss, error) {
	d.damaged = Loss{}
	late := h
	late.samples, late.series, late.stones = h.late, nil, nil
	loss, err := src.Records(ctx, func(l Log, rec []byte) error {
		if l == WBLLog {
			return d.record(rec, late)
		}
		return d.record(rec, h)
	})
	loss.add(d.damaged)
	return loss, err
}

// bad notes a record that cannot be decoded.
func (d *decoder) bad(rec []byte, err error) error {
	d.damaged.note(int64(len(rec)), "decode record of %d bytes: %v", len(rec), err)
	return nil
}

// record decodes one record and calls the handler. Records of other kinds, such as
// exemplars, metadata and markers of chunks, are skipped.
func (d *decoder) record(rec []byte, h handler) (err error) {
	switch d.dec.Type(rec) {
	case record.Series:
		if h.series == nil {
			return nil
		}
		if err := headlog.CheckLengths(rec); err != nil {
			return d.bad(rec, err)
		}
		if d.series, err = d.dec.Series(rec, d.series[:0]); err != nil {
			return d.bad(rec, err)
		}
		return h.series(d.series)
	case record.Samples, record.SamplesV2:
		if d.floats, err = d.dec.Samples(rec, d.floats[:0]); err != nil {
			return d.bad(rec, err)
		}
		for _, s := range d.floats {
			if err := h.samples(sample{ref: s.Ref, t: s.T, v: s.V}); err != nil {
				return err
			}
		}
	case record.HistogramSamples, record.CustomBucketsHistogramSamples, record.HistogramSamplesV2:
		return d.histograms(rec, h)
	case record.FloatHistogramSamples, record.CustomBucketsFloatHistogramSamples, record.FloatHistogramSamplesV2:
		return d.floatHistograms(rec, h)
	case record.Tombstones:
		if h.stones == nil {
			return nil
		}
		if d.stones, err = d.dec.Tombstones(rec, d.stones[:0]); err != nil {
			return d.bad(rec, err)
		}
		return h.stones(d.stones)
	}
	return nil
}

func (d *decoder) histograms(rec []byte, h handler) (err error) {
	if err := headlog.CheckLengths(rec); err != nil {
		return d.bad(rec, err)
	}
	if d.hists, err = d.dec.HistogramSamples(rec, d.hists[:0]); err != nil {
		return d.bad(rec, err)
	}
	for _, s := range d.hists {
		// Prometheus logs valid histograms only; an invalid one would break the
		// encoder of chunks.
		if err := s.H.Validate(); err != nil {
			d.damaged.note(0, "histogram of series %d: %v", s.Ref, err)
			continue
		}
		if err := h.samples(sample{ref: s.Ref, t: s.T, h: s.H}); err != nil {
			return err
		}
	}
	clear(d.hists)
	return nil
}

func (d *decoder) floatHistograms(rec []byte, h handler) (err error) {
	if err := headlog.CheckLengths(rec); err != nil {
		return d.bad(rec, err)
	}
	if d.fhists, err = d.dec.FloatHistogramSamples(rec, d.fhists[:0]); err != nil {
		return d.bad(rec, err)
	}
	for _, s := range d.fhists {
		if err := s.FH.Validate(); err != nil {
			d.damaged.note(0, "histogram of series %d: %v", s.Ref, err)
			continue
		}
		if err := h.samples(sample{ref: s.Ref, t: s.T, fh: s.FH}); err != nil {
			return err
		}
	}
	clear(d.fhists)
	return nil
}
