package blockmerge

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/compact/blockcheck"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// convertSeries makes the chunks of a series by Config.Convert. Its error or panic is
// damage of the source: decoders do not check bytes that have a checksum.
func (w *worker) convertSeries(u *unit, s *unitSeries) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if _, fault := p.(interface{ Addr() uintptr }); fault {
			panic(p) // of the local index, which an error looks its labels up in
		}
		err = w.source.corrupt(reason.BlockIndexCorrupt, "decoder failed: %v at %.2000s", p, debug.Stack())
	}()
	if err := w.load(s); err != nil {
		return err
	}
	u.count(s)
	out, err := w.convert(w.metas)
	if err != nil {
		return w.source.corrupt(reason.BlockChunkCorrupt, "series %s: %w", w.describe(s.labels), err)
	}
	if w.faults.merged != nil {
		out = w.faults.merged(out)
	}
	for _, m := range out {
		u.encode(m)
	}
	return w.unload()
}

// Beside is a second block that a merge makes in the same pass, with other chunks of the
// series of the result. After any error about it the merge goes on without it. Its files
// do not count against Config.Disk, and its index may buffer another quarter of
// Config.Memory.
type Beside struct {
	// Convert is as in Config, for the series of the result of the merge.
	Convert func() func(series []chunks.Meta) ([]chunks.Meta, error)
	// Create is called once, unless the merge has several outputs.
	Create func() Output
	// Check, unless it is nil, gets the chunks of the result as those of its source.
	Check *blockcheck.Checker

	// Result is set by Merge. It has no samples when there is no second block.
	Result Result
	// Err is why there is none, nil if there was nothing to write.
	Err error
}

// errShards says that a merge has several outputs.
var errShards = errors.New("the result is divided among several blocks")

// createBeside creates the second block.
func (m *merge) createBeside() {
	if m.cfg.Beside == nil {
		return
	}
	if len(m.outputs) > 1 {
		m.cfg.Beside.Err = errShards
		return
	}
	var err error
	if m.beside, err = newOutput(m.cfg.Beside.Create(), m.besideConfig()); err != nil {
		m.dropBeside(fmt.Errorf("create a second block in the work directory: %w", err))
	}
}

// dropBeside goes on without the second block.
func (m *merge) dropBeside(err error) {
	if m.beside != nil {
		err = errors.Join(err, m.beside.Close())
		m.beside = nil
	}
	m.cfg.Beside.Err = err
	m.besideOff.Store(true)
}

// addBeside writes the chunks that the unit has for the second block.
func (m *merge) addBeside(u *unit) {
	if m.beside == nil {
		return
	}
	err := u.besideErr
	records := u.beside.out
	for i := 0; i < len(u.series) && err == nil; i++ {
		s := &u.series[i]
		records, err = m.beside.add(&unitSeries{labels: s.labels, hash: s.hash, chunks: s.beside}, records, nil)
	}
	if err != nil {
		m.dropBeside(fmt.Errorf("write a second block in the work directory: %w", err))
	}
}

// endBeside completes the second block.
func (m *merge) endBeside(ctx context.Context) {
	if m.beside == nil {
		return
	}
	err := ctx.Err()
	if err == nil {
		err = m.beside.finish()
	}
	made := m.beside
	if err == nil {
		err, m.beside = made.Close(), nil
	}
	if err != nil {
		m.dropBeside(fmt.Errorf("complete a second block in the work directory: %w", err))
		return
	}
	m.cfg.Beside.Result = made.result
}

// besideSeries makes the chunks of a series for the second block from those of the result,
// which records are for the checker. An error or panic ends the second block only.
func (w *worker) besideSeries(u *unit, s *unitSeries, result []chunks.Meta, records []blockcheck.Chunk) {
	defer func() {
		if p := recover(); p != nil {
			u.besideErr = fmt.Errorf("decoder failed: %v at %.2000s", p, debug.Stack())
		}
	}()
	w.inputs = w.inputs[:0]
	for _, c := range records {
		w.inputs = append(w.inputs, blockcheck.Input{Chunk: c})
	}
	first, start := len(u.beside.chunks), len(u.beside.out)
	out, err := w.beside(result)
	if err != nil {
		u.besideErr = err
		return
	}
	for _, m := range out {
		u.beside.encode(m)
	}
	if w.besideCheck != nil {
		if u.besideErr = w.compareBeside(u, s, first, start); u.besideErr != nil {
			return
		}
	}
	s.beside = u.beside.chunks[first:len(u.beside.chunks):len(u.beside.chunks)]
}
