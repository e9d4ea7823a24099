package prom

import (
	"cmp"
	"fmt"
	"io"
	"slices"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

const (
	// Bounds of an answer that is not streamed.
	maxSampledBody    = 256 << 20
	maxSampledDecoded = 1 << 30
)

// readSamples decodes a remote read answer of samples, encodes them into chunks, and
// sorts the series.
func readSamples(body io.Reader, q ReadQuery) (Series, error) {
	compressed, err := io.ReadAll(&limitedReader{r: body, left: maxSampledBody})
	if err != nil {
		return nil, fmt.Errorf("remote read: receive samples: %w", err)
	}
	if n, err := snappy.DecodedLen(compressed); err != nil || n > maxSampledDecoded {
		return nil, fmt.Errorf("remote read: answer of %d bytes does not decompress to at most %d bytes", len(compressed), maxSampledDecoded)
	}
	raw, err := snappy.Decode(nil, compressed)
	if err != nil {
		return nil, fmt.Errorf("remote read: decompress samples: %w", err)
	}
	var resp prompb.ReadResponse
	if err := resp.Unmarshal(raw); err != nil {
		return nil, fmt.Errorf("remote read: decode samples: %w", err)
	}
	set := &sampledSeries{next: -1}
	dec := newDecoder(q.Strip)
	for _, result := range resp.Results {
		for _, ts := range result.Timeseries {
			dec.pairs = dec.pairs[:0]
			for _, l := range ts.Labels {
				dec.pairs = append(dec.pairs, labels.Label{Name: l.Name, Value: l.Value})
			}
			if err := dec.buildLabels(); err != nil {
				return nil, fmt.Errorf("remote read: decode samples: %w", err)
			}
			set.series = append(set.series, sampled{labels: dec.labels, ts: ts})
		}
	}
	slices.SortStableFunc(set.series, func(a, b sampled) int { return labels.Compare(a.labels, b.labels) })
	return set, nil
}

type sampled struct {
	labels labels.Labels
	ts     *prompb.TimeSeries
}

type sampledSeries struct {
	series []sampled
	next   int
	chunks []Chunk
	err    error
}

func (s *sampledSeries) Next() bool {
	if s.err != nil || s.next+1 >= len(s.series) {
		return false
	}
	s.next++
	s.chunks, s.err = encodeChunks(s.series[s.next].ts)
	return s.err == nil
}

func (s *sampledSeries) Labels() labels.Labels { return s.series[s.next].labels }
func (s *sampledSeries) Chunks() []Chunk       { return s.chunks }
func (s *sampledSeries) Err() error            { return s.err }
func (s *sampledSeries) Close() error          { return nil }

// encodeChunks merges floats and histograms by time and encodes them.
func encodeChunks(ts *prompb.TimeSeries) ([]Chunk, error) {
	all := make([]chunks.Sample, 0, len(ts.Samples)+len(ts.Histograms))
	for _, s := range ts.Samples {
		all = append(all, sample{t: s.Timestamp, f: s.Value, kind: chunkenc.ValFloat})
	}
	for i := range ts.Histograms {
		s, err := histogramSample(&ts.Histograms[i])
		if err != nil {
			return nil, fmt.Errorf("remote read: histogram at %d: %w", ts.Histograms[i].Timestamp, err)
		}
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(a, b chunks.Sample) int { return cmp.Compare(a.T(), b.T()) })

	var out []Chunk
	it := storage.NewSeriesToChunkEncoder(storage.NewListSeries(labels.EmptyLabels(), all)).Iterator(nil)
	for it.Next() {
		m := it.At()
		out = append(out, Chunk{MinTime: m.MinTime, MaxTime: m.MaxTime, Encoding: m.Chunk.Encoding(), Bytes: m.Chunk.Bytes()})
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("remote read: encode samples into a chunk: %w", err)
	}
	return out, nil
}

func histogramSample(p *prompb.Histogram) (sample, error) {
	if p.IsFloatHistogram() {
		fh := p.ToFloatHistogram()
		return sample{t: p.Timestamp, fh: fh, kind: chunkenc.ValFloatHistogram}, fh.Validate()
	}
	h := p.ToIntHistogram()
	return sample{t: p.Timestamp, h: h, kind: chunkenc.ValHistogram}, h.Validate()
}

// sample is one value of any kind for the encoder of the TSDB.
type sample struct {
	t    int64
	f    float64
	h    *histogram.Histogram
	fh   *histogram.FloatHistogram
	kind chunkenc.ValueType
}

func (s sample) T() int64                      { return s.t }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.f }
func (s sample) H() *histogram.Histogram       { return s.h }
func (s sample) FH() *histogram.FloatHistogram { return s.fh }
func (s sample) Type() chunkenc.ValueType      { return s.kind }

func (s sample) Copy() chunks.Sample {
	if s.h != nil {
		s.h = s.h.Copy()
	}
	if s.fh != nil {
		s.fh = s.fh.Copy()
	}
	return s
}
