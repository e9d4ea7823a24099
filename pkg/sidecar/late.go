package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
)

// lateSlack bounds how long before its commit a write to Prometheus learned the
// highest time in the head, against which the times of its samples are checked.
const lateSlack = 5 * time.Minute

// lateSamples bounds the times of out-of-order samples: of those that are in the
// head, and of those that Prometheus may still accept.
//
// Prometheus accepts a sample that is at most the configured window older than the
// highest time in the head, which only grows. So the window bounds all samples to
// come, and those of a segment of the write-behind log that grew since the last
// update. The first update reads the segments that exist by then. Segments
// disappear once their samples are in blocks.
//
// It is used by one goroutine.
type lateSamples struct {
	path string
	// low is the lowest time that a sample in the segment may have.
	low  map[string]segmentBound
	last *lateState
}

// segmentBound says of one segment that its first size bytes have no sample before
// low.
type segmentBound struct {
	size, low int64
}

// lateState is what one update saw.
type lateState struct {
	window, headMax, started int64
}

// accepted is the lowest time of a sample that Prometheus accepts with the window.
func (s *lateState) accepted(window int64) int64 {
	if s.headMax == math.MinInt64 {
		return math.MinInt64 // the head is empty, its first sample may have any time
	}
	return s.headMax - window - lateSlack.Milliseconds()
}

// update returns the time before which all samples are in blocks, and no other will
// come: math.MaxInt64 if out-of-order samples are off and none is pending.
// The caller has read window and t before, and lists blocks afterwards.
func (l *lateSamples) update(ctx context.Context, window int64, t prom.Times) (int64, error) {
	now := &lateState{window: window, headMax: t.HeadMax, started: t.Started}
	if l.last == nil || l.last.started != now.started {
		// The time of the head may have gone back.
		l.low, l.last = nil, nil
	}
	sizes, err := segmentSizes(l.path)
	if err != nil {
		return 0, fmt.Errorf("look for out-of-order samples: %w", err)
	}
	low := make(map[string]segmentBound, len(sizes))
	lowest := int64(math.MaxInt64)
	if window > 0 {
		lowest = now.accepted(window)
	}
	for name, size := range sizes {
		b, known := l.low[name]
		switch {
		case l.last == nil:
			if b.low, err = lowestTime(ctx, filepath.Join(l.path, name)); err != nil {
				return 0, fmt.Errorf("look for out-of-order samples: %w", err)
			}
		case !known:
			b.low = l.grown(window)
		case b.size != size:
			b.low = min(b.low, l.grown(window))
		}
		b.size = size
		low[name] = b
		lowest = min(lowest, b.low)
	}
	l.low, l.last = low, now
	return lowest, nil
}

// grown returns the lowest time of the samples that were accepted since the last
// update, in which the configuration may have been reloaded.
func (l *lateSamples) grown(window int64) int64 { return l.last.accepted(max(l.last.window, window)) }

// reset forgets the segments; the next update reads the log.
func (l *lateSamples) reset() { l.low, l.last = nil, nil }

// segmentSizes returns the sizes of the segments that are not empty; none if there
// is no such log.
func segmentSizes(dir string) (map[string]int64, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // truncated just now
		}
		if err != nil {
			return nil, err
		}
		if info.Mode().IsRegular() && info.Size() > 0 {
			sizes[e.Name()] = info.Size()
		}
	}
	return sizes, nil
}

// lowestTime returns the lowest time of a sample in a segment of the write-behind
// log, math.MaxInt64 when it has none.
func lowestTime(ctx context.Context, name string) (low int64, err error) {
	low = math.MaxInt64
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return low, nil // its samples are in blocks by now
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	logger := slog.New(slog.DiscardHandler)
	r := wlog.NewLiveReader(logger, wlog.NewLiveReaderMetrics(nil), f)
	times := recordTimes{dec: record.NewDecoder(nil, logger)}
	for r.Next() {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		t, err := times.lowest(r.Record())
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", name, err)
		}
		low = min(low, t)
	}
	// The last record may be written to at this moment.
	if err := r.Err(); err != nil && !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	return low, nil
}

// recordTimes reads the times of samples from records.
type recordTimes struct {
	dec        record.Decoder
	samples    []record.RefSample
	histograms []record.RefHistogramSample
	floats     []record.RefFloatHistogramSample
}

// lowest returns the lowest time of a sample in the record, math.MaxInt64 when it
// has none.
func (r *recordTimes) lowest(rec []byte) (low int64, err error) {
	low = math.MaxInt64
	switch r.dec.Type(rec) {
	case record.Samples, record.SamplesV2:
		if r.samples, err = r.dec.Samples(rec, r.samples[:0]); err != nil {
			return 0, err
		}
		for _, s := range r.samples {
			low = min(low, s.T)
		}
	case record.HistogramSamples, record.CustomBucketsHistogramSamples, record.HistogramSamplesV2:
		if r.histograms, err = r.dec.HistogramSamples(rec, r.histograms[:0]); err != nil {
			return 0, err
		}
		for _, s := range r.histograms {
			low = min(low, s.T)
		}
	case record.FloatHistogramSamples, record.CustomBucketsFloatHistogramSamples, record.FloatHistogramSamplesV2:
		if r.floats, err = r.dec.FloatHistogramSamples(rec, r.floats[:0]); err != nil {
			return 0, err
		}
		for _, s := range r.floats {
			low = min(low, s.T)
		}
	case record.Unknown:
		return 0, fmt.Errorf("a record of %d bytes has an unknown type", len(rec))
	}
	return low, nil
}
