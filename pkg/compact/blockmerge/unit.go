package blockmerge

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime/debug"
	"sync/atomic"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/compact/blockcheck"
	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/samplecheck"
)

// maxUnitSeries bounds the series of a unit.
const maxUnitSeries = 1024

// part is what one source has of a series.
type part struct {
	*series
	source *source
}

// unitSeries is a series of the result: its parts while it is merged, and its chunks.
type unitSeries struct {
	labels []uint32
	hash   uint64 // of the labels as strings, for the checker
	parts  []part
	chunks []outChunk
	beside []outChunk
}

// outChunk is a chunk of the result. Its record is that of a source, or if that is nil the
// next one of the output of its unit.
type outChunk struct {
	record     []byte
	mint, maxt int64
	ref        uint64
	size       int
	samples    int
	encoding   chunkenc.Encoding
}

// recordOf returns the record of the chunk, and those that are left of the output of its
// unit.
func (c *outChunk) recordOf(records []byte) (record, rest []byte) {
	if c.record != nil {
		return c.record, records
	}
	return records[:c.size], records[c.size:]
}

// unit is some series of the result, one after the other. The aligner fills it, one
// worker merges it, and the writer writes it and releases its batches.
type unit struct {
	number  uint64
	series  []unitSeries
	parts   []part
	batches []*batch
	bytes   int // of the chunks of the sources

	made
	// beside has the chunks for Config.Beside, or besideErr says why it has none.
	beside    made
	besideErr error

	read   uint64 // samples of the sources
	merged dedup.Counts
	err    error
	panics any
	done   chan struct{}
}

// made are chunks of the result, with the records of those that no source has.
type made struct {
	chunks []outChunk
	out    []byte
}

func (u *unit) reset(number uint64) {
	u.number, u.series, u.parts, u.batches, u.bytes = number, u.series[:0], u.parts[:0], u.batches[:0], 0
	u.chunks, u.out, u.read = u.chunks[:0], u.out[:0], 0
	u.beside.chunks, u.beside.out, u.besideErr = u.beside.chunks[:0], u.beside.out[:0], nil
	u.err, u.panics = nil, nil
}

// release gives the batches of the unit back to their sources.
func (u *unit) release() {
	for _, b := range u.batches {
		b.release()
	}
	u.batches = u.batches[:0]
}

// worker merges the chunks of units.
type worker struct {
	merger   *dedup.Merger
	pool     *aggr.Pool
	describe func([]uint32) string
	// convert is nil for a merge; source is the one that it converts.
	convert func([]chunks.Meta) ([]chunks.Meta, error)
	source  *source
	// beside is nil unless the merge makes a second block.
	beside    func([]chunks.Meta) ([]chunks.Meta, error)
	besideOff *atomic.Bool
	metas     []chunks.Meta
	origins   []int

	samples samplecheck.Checker
	decodes bool               // all chunks of the sources
	check   *blockcheck.Worker // nil when nothing is verified
	// besideCheck compares the chunks of the second block with those of the result, which
	// are its source.
	besideCheck  *blockcheck.Worker
	besideSource *blockcheck.Source
	inputs       []blockcheck.Input
	made         []blockcheck.Chunk
	faults       faults
}

// run merges units until there are no more.
func (w *worker) run(ctx context.Context, todo <-chan *unit) {
	for u := range todo {
		if ctx.Err() == nil {
			w.merge(u)
		} else {
			u.err = ctx.Err()
		}
		u.done <- struct{}{} // never blocks: it has room for one
	}
	if w.check != nil {
		w.check.Close()
	}
	if w.besideCheck != nil {
		w.besideSource.Close()
		w.besideCheck.Close()
	}
}

// merge merges the series of a unit. A panic of a decoder is kept for the caller of
// Merge, unless a damaged chunk explains it.
func (w *worker) merge(u *unit) {
	var current *unitSeries
	defer func() {
		u.panics = recover()
		if _, fault := u.panics.(interface{ Addr() uintptr }); u.panics != nil && !fault {
			u.panics = fmt.Sprintf("%v at %.2000s", u.panics, debug.Stack())
			if bad := w.damaged(current); bad != nil {
				u.err, u.panics = bad, nil
			}
		}
	}()
	for i := range u.series {
		s := &u.series[i]
		current = s
		first, start := len(u.chunks), len(u.out)
		if u.err = w.checkSources(s); u.err != nil {
			return
		}
		switch {
		case w.convert != nil:
			if u.err = w.convertSeries(u, s); u.err == nil {
				u.err = w.compare(u, s, first, start)
			}
		case passes(s.parts):
			w.passSeries(u, s)
		default:
			if u.err = w.mergeSeries(u, s); u.err != nil {
				u.err = fmt.Errorf("merge series %s: %w", w.describe(s.labels), u.err)
			} else {
				u.err = w.compare(u, s, first, start)
			}
		}
		if u.err != nil {
			if bad := w.damaged(s); bad != nil {
				u.err = bad
			}
			return
		}
		s.chunks = u.chunks[first:len(u.chunks):len(u.chunks)]
	}
	u.merged = w.merger.Take()
}

// passSeries takes the chunks of a series as they are.
func (w *worker) passSeries(u *unit, s *unitSeries) {
	first, start := len(u.chunks), len(u.out)
	for _, p := range s.parts {
		for k := range p.chunks {
			u.pass(&p.chunks[k])
		}
	}
	if w.beside == nil || u.besideErr != nil || w.besideOff.Load() {
		return
	}
	if u.besideErr = w.load(s); u.besideErr != nil {
		return
	}
	w.besideSeries(u, s, w.metas, w.madeOf(&u.made, first, start))
	u.besideErr = errors.Join(u.besideErr, w.unload())
}

// passes says whether the chunks need no merging: they are of one source, and each
// begins after the end of the one before it.
func passes(parts []part) bool {
	last, first := int64(0), true
	for _, p := range parts {
		if p.source.Number != parts[0].source.Number {
			return false
		}
		for i := range p.chunks {
			if !first && p.chunks[i].mint <= last {
				return false
			}
			last, first = p.chunks[i].maxt, false
		}
	}
	return true
}

// pass adds a chunk of a source as it is. Its record lives until the unit is released.
func (u *unit) pass(c *chunk) {
	u.chunks = append(u.chunks, outChunk{
		record: c.record, mint: c.mint, maxt: c.maxt, size: len(c.record), samples: c.samples, encoding: c.encoding,
	})
	u.read += uint64(c.samples)
}

// mergeSeries merges the chunks of a series that overlap or are of several sources.
func (w *worker) mergeSeries(u *unit, s *unitSeries) error {
	if err := w.load(s); err != nil {
		return err
	}
	u.count(s)
	first, start := len(u.chunks), len(u.out)
	out, err := w.merger.Chunks(w.metas, w.origins)
	if err != nil {
		return err
	}
	if w.faults.merged != nil {
		out = w.faults.merged(out)
	}
	for _, m := range out {
		u.encode(m)
	}
	if w.beside != nil && u.besideErr == nil && !w.besideOff.Load() {
		w.besideSeries(u, s, out, w.madeOf(&u.made, first, start))
	}
	return w.unload()
}

// count adds the samples of the parts of a series to those that were read.
func (u *unit) count(s *unitSeries) {
	for _, p := range s.parts {
		for i := range p.chunks {
			u.read += uint64(p.chunks[i].samples)
		}
	}
}

// load makes metas and origins of the chunks of a series.
func (w *worker) load(s *unitSeries) error {
	w.metas, w.origins = w.metas[:0], w.origins[:0]
	for _, p := range s.parts {
		for i := range p.chunks {
			c := &p.chunks[i]
			chk, err := w.pool.Get(c.encoding, c.data())
			if err != nil {
				return err
			}
			w.metas = append(w.metas, chunks.Meta{MinTime: c.mint, MaxTime: c.maxt, Chunk: chk})
			w.origins = append(w.origins, p.source.Number)
		}
	}
	return nil
}

// unload gives the chunks of metas back.
func (w *worker) unload() error {
	for _, m := range w.metas {
		if err := w.pool.Put(m.Chunk); err != nil {
			return err
		}
	}
	return nil
}

// encode adds a chunk that was made, or chosen, by the merger or a conversion.
func (u *made) encode(m chunks.Meta) {
	data, start := m.Chunk.Bytes(), len(u.out)
	u.out = binary.AppendUvarint(u.out, uint64(len(data)))
	body := len(u.out)
	u.out = append(append(u.out, byte(m.Chunk.Encoding())), data...)
	u.out = binary.BigEndian.AppendUint32(u.out, crc32.Checksum(u.out[body:], castagnoli()))
	u.chunks = append(u.chunks, outChunk{
		mint: m.MinTime, maxt: m.MaxTime, size: len(u.out) - start, samples: m.Chunk.NumSamples(), encoding: m.Chunk.Encoding(),
	})
}
