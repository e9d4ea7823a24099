package blockcheck

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// decoded returns the chunk for the decoders of Prometheus.
func (c *Chunk) decoded() (chunkenc.Chunk, error) { return chunkenc.FromData(c.Encoding, c.Data) }

// tally adds histograms up bucket by bucket, in the layout of a histogram of the result.
// It does not use the arithmetic of histograms, which it checks.
type tally struct {
	schema           int32
	threshold        float64
	count, sum, zero float64
	// scale and sumScale are the largest values that count and sum may have been made
	// of, for what additions round off.
	scale, sumScale float64
	// inZero says that a histogram had a bucket within its own zero bucket, which no client
	// makes: how such histograms are added is not defined.
	inZero bool
	// buckets are those that are not empty, by index and sign.
	buckets map[bucketKey]float64
}

type bucketKey struct {
	index    int32
	negative bool
}

// newTally returns an empty tally in the layout of h.
func newTally(h *histogram.FloatHistogram) *tally {
	return &tally{schema: h.Schema, threshold: h.ZeroThreshold, buckets: map[bucketKey]float64{}}
}

// clear empties the tally.
func (t *tally) clear() {
	t.count, t.sum, t.zero, t.scale, t.sumScale = 0, 0, 0, 0, 0
	clear(t.buckets)
}

// add adds a histogram times a factor. A bucket that lies in a zero bucket which is larger
// than that of h is a part of it; others are a part of the bucket of the smaller schema.
func (t *tally) add(h *histogram.FloatHistogram, factor float64) {
	t.count += factor * h.Count
	t.sum += factor * h.Sum
	t.zero += factor * h.ZeroCount
	t.scale += math.Abs(h.Count)
	t.sumScale += math.Abs(h.Sum)
	for _, negative := range []bool{false, true} {
		it := h.PositiveBucketIterator()
		if negative {
			it = h.NegativeBucketIterator()
		}
		for it.Next() {
			b := it.At()
			if b.Count == 0 {
				continue
			}
			key := bucketKey{b.Index, negative}
			if !h.UsesCustomBuckets() {
				far := max(math.Abs(b.Lower), math.Abs(b.Upper))
				if far <= t.threshold {
					t.inZero = t.inZero || far <= h.ZeroThreshold
					t.zero += factor * b.Count
					continue
				}
				if by := h.Schema - t.schema; by > 0 && by < 32 {
					key.index = (b.Index-1)>>by + 1
				}
			}
			t.buckets[key] += factor * b.Count
		}
	}
}

// differs says in what a histogram of the result is not the tally, "" if it is. bounds are
// those of custom buckets.
func (t *tally) differs(h *histogram.FloatHistogram, bounds []float64) string {
	if h.UsesCustomBuckets() != (bounds != nil) || bounds != nil && !histogram.CustomBucketBoundsMatch(bounds, h.CustomValues) {
		return fmt.Sprintf("has the bounds %v instead of %v", h.CustomValues, bounds)
	}
	if h.Schema != t.schema || h.ZeroThreshold != t.threshold {
		return fmt.Sprintf("has the schema %d and zero bucket %v, others in the chunk %d and %v", h.Schema, h.ZeroThreshold, t.schema, t.threshold)
	}
	if !near(h.Count, t.count, t.scale) || !near(h.ZeroCount, t.zero, t.scale) && !t.inZero {
		return fmt.Sprintf("has the count %v with %v in the zero bucket instead of %v with %v", h.Count, h.ZeroCount, t.count, t.zero)
	}
	if finite := !math.IsInf(t.sumScale, 0) && !math.IsNaN(t.sumScale); finite && !near(h.Sum, t.sum, t.sumScale) {
		return fmt.Sprintf("has the sum %v instead of %v", h.Sum, t.sum)
	}
	if t.inZero {
		return ""
	}
	got := newTally(h)
	got.add(h, 1)
	for _, keys := range []map[bucketKey]float64{got.buckets, t.buckets} {
		for key := range keys {
			if a, b := got.buckets[key], t.buckets[key]; !near(a, b, t.scale) {
				return fmt.Sprintf("has %v in bucket %+v instead of %v", a, key, b)
			}
		}
	}
	return ""
}
