package headblock

import (
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tombstones"
)

const (
	// samplesPerChunk is the number of float samples that Prometheus aims at.
	samplesPerChunk = 120
	// columnBytes is the memory of a column with one chunk, without the chunk's data.
	columnBytes = 384
	// metaBytes is the memory of a chunk that is complete, without its data.
	metaBytes = 96
	// lateBytes is the memory of an out-of-order float sample.
	lateBytes = 48
)

// column has the samples of one series in one window: chunks of those that came in
// order, and the others as a list.
type column struct {
	done       []chunks.Meta
	chunk      chunkenc.Chunk
	app        chunkenc.Appender
	mint, maxt int64 // of the chunk
	late       []sample
}

// valueType returns the kind of a sample.
func (s *sample) valueType() chunkenc.ValueType {
	switch {
	case s.h != nil:
		return chunkenc.ValHistogram
	case s.fh != nil:
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

// append adds a sample that is newer than all samples before, and returns the bytes of
// memory that it took.
func (c *column) append(s sample) (int, error) {
	encoding := s.valueType().ChunkEncoding(false, false)
	grown := 0
	prev := c.app
	if c.chunk == nil || c.chunk.Encoding() != encoding || c.full() {
		grown += c.cut()
		if err := c.begin(encoding, s.t); err != nil {
			return grown, err
		}
	} else {
		prev = nil // matters at the start of a chunk only
	}
	before := len(c.chunk.Bytes())
	var next chunkenc.Chunk
	var recoded bool
	var err error
	switch {
	case s.h != nil:
		next, recoded, c.app, err = c.app.AppendHistogram(prev, 0, s.t, s.h, false)
	case s.fh != nil:
		next, recoded, c.app, err = c.app.AppendFloatHistogram(prev, 0, s.t, s.fh, false)
	default:
		c.app.Append(0, s.t, s.v)
	}
	if err != nil {
		return grown, fmt.Errorf("encode sample: %w", err)
	}
	if next != nil {
		if !recoded {
			grown += c.cut()
			c.mint, before = s.t, 0
		}
		c.chunk = next
	}
	c.maxt = s.t
	return grown + len(c.chunk.Bytes()) - before, nil
}

// full reports whether the next sample begins a new chunk.
func (c *column) full() bool {
	n := c.chunk.NumSamples()
	if c.chunk.Encoding() == chunkenc.EncXOR {
		return n >= samplesPerChunk
	}
	return n >= samplesPerChunk || len(c.chunk.Bytes()) >= chunkenc.TargetBytesPerHistogramChunk && n >= chunkenc.MinSamplesPerHistogramChunk
}

func (c *column) begin(encoding chunkenc.Encoding, t int64) (err error) {
	if c.chunk, err = chunkenc.NewEmptyChunk(encoding); err != nil {
		return err
	}
	c.app, err = c.chunk.Appender()
	c.mint = t
	return err
}

// cut completes the chunk.
func (c *column) cut() int {
	if c.chunk == nil {
		return 0
	}
	c.chunk.Compact()
	c.done = append(c.done, chunks.Meta{Chunk: c.chunk, MinTime: c.mint, MaxTime: c.maxt})
	c.chunk = nil
	return metaBytes
}

// finish returns the chunks of the column, in order and without overlap.
func (c *column) finish(stones tombstones.Intervals) ([]chunks.Meta, error) {
	c.cut()
	if len(c.late) == 0 && !c.deleted(stones) {
		return c.done, nil
	}
	// The first of the samples of a time stays.
	slices.SortStableFunc(c.late, func(a, b sample) int {
		switch {
		case a.t < b.t:
			return -1
		case a.t > b.t:
			return 1
		}
		return 0
	})
	var out column
	late := c.late
	last, any := int64(0), false
	add := func(s sample) error {
		if any && s.t <= last {
			return nil
		}
		last, any = s.t, true
		for _, iv := range stones {
			if iv.InBounds(s.t) {
				return nil
			}
		}
		_, err := out.append(s)
		return err
	}
	var it chunkenc.Iterator
	for _, m := range c.done {
		it = m.Chunk.Iterator(it)
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			s := current(it, vt)
			for len(late) > 0 && late[0].t < s.t {
				if err := add(late[0]); err != nil {
					return nil, err
				}
				late = late[1:]
			}
			if err := add(s); err != nil {
				return nil, err
			}
		}
		if err := it.Err(); err != nil {
			return nil, err
		}
	}
	for _, s := range late {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	out.cut()
	return out.done, nil
}

// deleted reports whether a tombstone has a time in common with the column.
func (c *column) deleted(stones tombstones.Intervals) bool {
	if len(c.done) == 0 {
		return false
	}
	first, last := c.done[0].MinTime, c.done[len(c.done)-1].MaxTime
	return slices.ContainsFunc(stones, func(iv tombstones.Interval) bool { return iv.Mint <= last && first <= iv.Maxt })
}

// current returns the sample at which an iterator is.
func current(it chunkenc.Iterator, vt chunkenc.ValueType) (s sample) {
	switch vt {
	case chunkenc.ValHistogram:
		s.t, s.h = it.AtHistogram(nil)
	case chunkenc.ValFloatHistogram:
		s.t, s.fh = it.AtFloatHistogram(nil)
	default:
		s.t, s.v = it.At()
	}
	return s
}
