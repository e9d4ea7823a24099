// Package sampletext reads and writes samples in the texts of tests.
//
// A sample is seconds:value. A value is a float, "stale", or a native histogram by
// its count: h5 has exponential buckets, c5 custom ones. "300-" is the last
// millisecond before 300 s. "0..60/15:1+2" is every 15 s from 0 s to 60 s, with the
// values 1, 3, 5 and so on.
package sampletext

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Sample is a float, or a native histogram where H is set. T is in milliseconds.
type Sample struct {
	T int64
	V float64
	H *histogram.FloatHistogram
}

// Parse reads one word, which may be several samples.
func Parse(word string) ([]Sample, error) {
	times, val, ok := strings.Cut(word, ":")
	if !ok || val == "" {
		return nil, fmt.Errorf("sample %q is not time:value", word)
	}
	from, rest, isRange := strings.Cut(times, "..")
	to, every, _ := strings.Cut(rest, "/")
	if !isRange {
		to, every = from, "1"
	}
	var bounds [3]int64
	for i, s := range []string{from, to, every} {
		var err error
		if bounds[i], err = parseTime(s); err != nil {
			return nil, fmt.Errorf("sample %q: %w", word, err)
		}
	}
	kind := strings.TrimRight(val[:1], "-0123456789")
	v, by := math.Float64frombits(value.StaleNaN), 0.0
	if val == "stale" {
		kind = ""
	} else {
		first, growth, _ := strings.Cut(val[len(kind):], "+")
		var err error
		if v, err = strconv.ParseFloat(first, 64); err != nil {
			return nil, fmt.Errorf("sample %q: %w", word, err)
		}
		if growth != "" {
			if by, err = strconv.ParseFloat(growth, 64); err != nil {
				return nil, fmt.Errorf("sample %q: %w", word, err)
			}
		}
	}
	var out []Sample
	for at := bounds[0]; at <= bounds[1]; at += bounds[2] {
		out = append(out, Sample{T: at, V: v, H: histogramOf(kind, v)})
		v += by
	}
	return out, nil
}

func parseTime(s string) (int64, error) {
	whole, before := strings.CutSuffix(s, "-")
	f, err := strconv.ParseFloat(whole, 64)
	if err != nil {
		return 0, err
	}
	ms := int64(math.Round(f * 1000))
	if before {
		ms--
	}
	return ms, nil
}

// histogramOf makes a histogram of the count v for the kinds h and c.
func histogramOf(kind string, v float64) *histogram.FloatHistogram {
	if kind == "" {
		return nil
	}
	h := &histogram.FloatHistogram{
		Count: v, Sum: 2 * v, CounterResetHint: histogram.NotCounterReset,
		PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []float64{v / 4, v * 3 / 4},
	}
	if kind == "c" {
		h.Schema, h.CustomValues = histogram.CustomBucketsSchema, []float64{1, 5}
	}
	return h
}

// String writes the sample as Parse reads it.
func (s Sample) String() string {
	val := strconv.FormatFloat(s.V, 'g', 6, 64)
	switch {
	case s.H != nil && s.H.UsesCustomBuckets():
		val = "c" + strconv.FormatFloat(s.H.Count, 'g', 6, 64)
	case s.H != nil:
		val = "h" + strconv.FormatFloat(s.H.Count, 'g', 6, 64)
	case value.IsStaleNaN(s.V):
		val = "stale"
	}
	if (s.T+1)%1000 == 0 {
		return strconv.FormatInt((s.T+1)/1000, 10) + "-:" + val
	}
	return strconv.FormatFloat(float64(s.T)/1000, 'f', -1, 64) + ":" + val
}

// Read returns the samples of an iterator. Integer histograms become float
// histograms.
func Read(it chunkenc.Iterator) []Sample {
	var out []Sample
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ == chunkenc.ValFloat {
			t, v := it.At()
			out = append(out, Sample{T: t, V: v})
			continue
		}
		t, h := it.AtFloatHistogram(nil)
		out = append(out, Sample{T: t, H: h})
	}
	return out
}

// Encode makes one chunk of samples, which are all floats or all histograms of one
// kind without a counter reset.
func Encode(samples []Sample) (chunkenc.Chunk, error) {
	var c chunkenc.Chunk = chunkenc.NewXORChunk()
	if len(samples) > 0 && samples[0].H != nil {
		c = chunkenc.NewFloatHistogramChunk()
	}
	app, err := c.Appender()
	for _, s := range samples {
		if err != nil {
			break
		}
		if s.H == nil {
			app.Append(0, s.T, s.V)
			continue
		}
		_, _, app, err = app.AppendFloatHistogram(nil, 0, s.T, s.H, true)
	}
	return c, err
}
