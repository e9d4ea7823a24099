package blockmerge

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/compact/blockcheck"
)

// checked is a chunk for the checker, from its record.
func checked(mint, maxt int64, record []byte) blockcheck.Chunk {
	_, head := binary.Uvarint(record)
	return blockcheck.Chunk{
		MinTime: mint, MaxTime: maxt, Encoding: chunkenc.Encoding(record[head]), Data: record[head+1 : len(record)-crc32.Size],
		Sum: binary.BigEndian.Uint32(record[len(record)-crc32.Size:]),
	}
}

// compare compares the chunks of a series that were made from first and the byte start of
// the output of the unit on with those that they were made of.
func (w *worker) compare(u *unit, s *unitSeries, first, start int) error {
	if w.check == nil {
		return nil
	}
	if err := w.check.Changed(s.hash, w.inputsOf(s), w.madeOf(&u.made, first, start)); err != nil {
		return fmt.Errorf("verify the new chunks of series %s: %w", w.describe(s.labels), err)
	}
	return nil
}

// inputsOf are the chunks of a series in the sources.
func (w *worker) inputsOf(s *unitSeries) []blockcheck.Input {
	w.inputs = w.inputs[:0]
	for _, p := range s.parts {
		for i := range p.chunks {
			c := &p.chunks[i]
			w.inputs = append(w.inputs, blockcheck.Input{Chunk: checked(c.mint, c.maxt, c.record), Source: p.source.Number})
		}
	}
	return w.inputs
}

// compareBeside compares the chunks of a series in the second block, from first and the byte
// start of its output on, with those in the result.
func (w *worker) compareBeside(u *unit, s *unitSeries, first, start int) error {
	for i := range w.inputs {
		w.besideSource.Read(s.hash, &w.inputs[i].Chunk)
	}
	if err := w.besideCheck.Changed(s.hash, w.inputs, w.madeOf(&u.beside, first, start)); err != nil {
		return fmt.Errorf("verify the chunks of the second block of series %s: %w", w.describe(s.labels), err)
	}
	return nil
}

// madeOf are the chunks of a series in an output, valid until the next call.
func (w *worker) madeOf(u *made, first, start int) []blockcheck.Chunk {
	w.made = w.made[:0]
	records := u.out[start:]
	for i := range u.chunks[first:] {
		c := &u.chunks[first+i]
		var record []byte
		record, records = c.recordOf(records)
		w.made = append(w.made, checked(c.mint, c.maxt, record))
	}
	return w.made
}

// faults break a merge for tests. They are called by workers and by the writer.
type faults struct {
	// merged changes the chunks of a series after they were merged, written those of a
	// unit before it is written.
	merged  func([]chunks.Meta) []chunks.Meta
	written func(*unit)
}

// besideConfig is the configuration of the second block.
func (m *merge) besideConfig() Config {
	cfg := m.cfg
	cfg.Check = m.cfg.Beside.Check
	return cfg
}
