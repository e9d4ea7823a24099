package limit

import (
	"math"

	"github.com/prometheus/prometheus/model/labels"
)

// samplesPerChunk is how many samples a chunk counts for: the number that
// Prometheus aims at.
const samplesPerChunk = 120

// The flags that set the limits of an answer.
const (
	seriesFlag  = "--store.limits.request-series"
	samplesFlag = "--store.limits.request-samples"
)

// Answer is how much one answer of a store may have, as the flags
// --store.limits.request-series and --store.limits.request-samples set it; 0
// means no limit. Each chunk counts as samplesPerChunk samples, so a limit of
// samples below that allows no chunk.
type Answer struct{ Series, Samples uint64 }

// Counter counts the series and chunks of one answer. The zero value has no
// limits. It must not be used concurrently.
type Counter struct {
	// Max must not change once something was counted.
	Max Answer

	series, chunks uint64
	last           labels.Labels
}

// Add counts a series with its chunks, and returns an *Error when the answer has
// more than Max allows. Equal label sets that follow each other count as one
// series. The labels are kept until the next call.
func (c *Counter) Add(series labels.Labels, chunks int) error {
	if c.series == 0 || !labels.Equal(series, c.last) {
		c.series++
		c.last = series
	}
	c.chunks += uint64(chunks)
	if c.Max.Series > 0 && c.series > c.Max.Series {
		return &Error{What: "series", Flag: seriesFlag, Max: clamp(c.Max.Series), Needed: clamp(c.series)}
	}
	if samples := c.chunks * samplesPerChunk; c.Max.Samples > 0 && samples > c.Max.Samples {
		return &Error{What: "samples (120 for each chunk)", Flag: samplesFlag, Max: clamp(c.Max.Samples), Needed: clamp(samples)}
	}
	return nil
}

// Series is the number of series counted.
func (c *Counter) Series() int64 { return clamp(c.series) }

// Chunks is the number of chunks counted.
func (c *Counter) Chunks() int64 { return clamp(c.chunks) }

func clamp(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
