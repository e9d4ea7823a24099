package samplecheck

import (
	"errors"
	"fmt"
	"math"
	"runtime/debug"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/chunkcheck"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// errTimes says that the samples of a chunk are out of order, or outside of the times that
// the index has of the chunk. Other errors are about bytes that cannot be decoded. Test
// with errors.Is.
var errTimes = errors.New("times of samples are wrong")

// Reason is that of an error of Chunk.
func Reason(err error) reason.Reason {
	if errors.Is(err, errTimes) {
		return reason.BlockSampleTimes
	}
	return reason.BlockChunkCorrupt
}

// Checker checks one chunk after the other and keeps its memory. It is used by one
// goroutine; the zero value is ready for use.
type Checker struct {
	cols xorcolumn.Columns
	it   chunkenc.Iterator
}

// Chunk decodes all samples of a chunk, given without its encoding byte. Each must be later
// than the one before it, and none outside of mint and maxt, the times of the chunk in the
// index. These may be wider than the samples, and a chunk may be without samples: old versions of
// Prometheus left such chunks where they removed deleted samples.
//
// Of an aggregate chunk it decodes all parts and checks the order of each, but compares no
// time with the index: the counter begins before the first window.
//
// A panic of a decoder is an error, but for a fault of mapped memory.
func (c *Checker) Chunk(enc chunkenc.Encoding, data []byte, mint, maxt int64) (err error) {
	defer recoverDecoder(&err)
	if enc == aggr.Encoding {
		return c.aggregates(data)
	}
	if err := chunkcheck.Check(enc, data); err != nil {
		return err
	}
	return c.samples(enc, data, span{mint, maxt})
}

// span is the times that samples may have, inclusive.
type span struct{ mint, maxt int64 }

// aggregates checks the parts of an aggregate chunk.
func (c *Checker) aggregates(data []byte) error {
	a, err := aggr.Decode(data)
	if err != nil {
		return err
	}
	any := span{math.MinInt64, math.MaxInt64}
	for _, p := range []struct {
		name string
		storeapi.Data
	}{{"count", a.Count}, {"sum", a.Sum}, {"min", a.Min}, {"max", a.Max}} {
		if len(p.Bytes) == 0 {
			continue
		}
		if err := c.samples(p.Encoding, p.Bytes, any); err != nil {
			return fmt.Errorf("aggregate %s: %w", p.name, err)
		}
	}
	if len(a.Counter.Bytes) == 0 {
		return nil
	}
	if err := c.decode(a.Counter.Encoding, a.Counter.Bytes); err != nil {
		return fmt.Errorf("aggregate counter: %w", err)
	}
	// The last raw value has the time of the last window once more, and the first one that of
	// the first window if it is its last millisecond.
	ts := c.cols.T
	if n := len(ts); n > 1 && ts[n-1] == ts[n-2] {
		ts = ts[:n-1]
	}
	if len(ts) > 1 && ts[0] == ts[1] {
		ts = ts[1:]
	}
	if err := ascending(ts, any); err != nil {
		return fmt.Errorf("aggregate counter: %w", err)
	}
	return nil
}

// samples checks a chunk of samples.
func (c *Checker) samples(enc chunkenc.Encoding, data []byte, within span) error {
	if err := c.decode(enc, data); err != nil {
		return err
	}
	return ascending(c.cols.T, within)
}

// decode fills the column of times.
func (c *Checker) decode(enc chunkenc.Encoding, data []byte) error {
	c.cols.Reset()
	if enc == chunkenc.EncXOR {
		return c.cols.AppendXOR(data)
	}
	chk, err := chunkenc.FromData(enc, data)
	if err != nil {
		return err
	}
	c.it = chk.Iterator(c.it)
	for c.it.Next() != chunkenc.ValNone {
		c.cols.T = append(c.cols.T, c.it.AtT())
	}
	if err := c.it.Err(); err != nil {
		return fmt.Errorf("%s chunk of %d bytes ends within sample %d: %w", enc, len(data), len(c.cols.T)+1, err)
	}
	return nil
}

// ascending says where times are not ascending, or not within a span.
func ascending(ts []int64, within span) error {
	for i := 1; i < len(ts); i++ {
		if ts[i] <= ts[i-1] {
			return fmt.Errorf("%w: sample %d at %d follows one at %d", errTimes, i+1, ts[i], ts[i-1])
		}
	}
	if n := len(ts); n > 0 && (ts[0] < within.mint || ts[n-1] > within.maxt) {
		return fmt.Errorf("%w: the samples are from %d to %d, the index says from %d to %d", errTimes, ts[0], ts[n-1], within.mint, within.maxt)
	}
	return nil
}

// recoverDecoder turns the panic of a decoder into an error.
func recoverDecoder(err *error) {
	p := recover()
	if p == nil {
		return
	}
	if _, fault := p.(interface{ Addr() uintptr }); fault {
		panic(p) // a file cannot be read
	}
	*err = fmt.Errorf("decoder failed: %v at %.2000s", p, debug.Stack())
}
