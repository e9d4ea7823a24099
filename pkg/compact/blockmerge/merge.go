package blockmerge

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact/blockcheck"
	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// Config configures a merge; the zero value has the defaults.
type Config struct {
	// Func chooses between sources.
	Func dedup.Func
	// Workers is the number of goroutines that merge chunks; 0 means GOMAXPROCS.
	Workers int
	// Memory is about the number of bytes of all buffers together; 0 means 128 MiB.
	// Beside them a merge holds four bytes for each symbol of each source.
	Memory int64
	// FS has the directories of the results; nil is that of the operating system. The
	// symbols are mapped into memory by the name of their file, not read through it.
	FS vfs.FS
	// SegmentSize is the size of a segment of the result; 0 means 512 MiB.
	SegmentSize int64
	// Disk bounds the bytes of the indexes of the result while they are made; 0 is no
	// bound. Exceeded is the error beyond it.
	Disk     int64
	Exceeded error
	// Limits are those of the index; 0 means FormatLimits.
	Limits Limits
	// Convert, unless it is nil, makes the chunks of the result, such as those of a
	// coarser resolution, from all chunks of a series of the only source. Each worker
	// calls it once, and the function that it returns for one series after the other:
	// its result is valid until its next call, and its error, or panic, is damage of the
	// source. The result is one block whatever the limits. It has all symbols of the
	// source, and no series without chunks.
	Convert func() func(series []chunks.Meta) ([]chunks.Meta, error)
	// Beside, unless it is nil, is a second block that is made in the same pass. It is not
	// used with Convert.
	Beside *Beside
	// Check, unless it is nil, gets all chunks that the merge reads and writes, except
	// those of Beside. The caller verifies the result by it.
	Check *blockcheck.Checker
	// Progress, unless it is nil, is called with the number of samples of the sources
	// that were merged since the last call.
	Progress func(samples uint64)

	faults faults
}

const (
	defaultMemory = 128 << 20
	unitBytes     = 256 << 10
)

func (c Config) withDefaults() Config {
	if c.Workers <= 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.Memory <= 0 {
		c.Memory = defaultMemory
	}
	if c.FS == nil {
		c.FS = vfs.OS()
	}
	if c.SegmentSize <= 0 {
		c.SegmentSize = chunks.DefaultChunkSegmentSize
	}
	if c.Limits == (Limits{}) {
		c.Limits = FormatLimits()
	}
	return c
}

// Result describes a block that a merge made.
type Result struct {
	// Stats are those of the block for its meta.json.
	Stats tsdb.BlockStats
	// ChunkMaxSize is the size of the largest chunk in bytes.
	ChunkMaxSize int64
}

// Merge writes the series of all sources to one output, each once, in order. It copies
// chunks that overlap no others of their series. If the index could exceed the limits of
// its format, it divides the series among several outputs by a hash of their labels.
//
// create is called for each output before the first series is written, with its number
// and the number of all. Merge returns a result for each. The caller writes meta.json,
// and removes the directories after an error.
//
// A damaged source is a *block.CorruptError, sources that are no copies
// dedup.ErrNotCopies. Merge panics when a decoder of samples does.
func Merge(ctx context.Context, bkt bucket.Reader, sources []Source, create func(number, count int) Output, cfg Config) (_ []Result, err error) {
	cfg = cfg.withDefaults()
	if cfg.Convert != nil && len(sources) != 1 {
		return nil, fmt.Errorf("convert %d blocks: it must be one", len(sources))
	}
	m := &merge{cfg: cfg, buffers: buffersFor(cfg.Memory, len(sources))}
	for _, src := range sources {
		s, err := open(ctx, bkt, src, m.buffers)
		if err != nil {
			return nil, err
		}
		s.check = cfg.Check
		m.sources = append(m.sources, s)
	}
	if cfg.Convert == nil {
		if err := m.split(ctx); err != nil {
			return nil, err
		}
	}
	defer func() {
		for _, o := range m.outputs {
			err = errors.Join(err, o.Close())
		}
	}()
	count := max(len(m.shards), 1)
	for n := range count {
		o, err := newOutput(create(n, count), cfg)
		if err != nil {
			return nil, fmt.Errorf("create a new block in the work directory: %w", err)
		}
		m.outputs = append(m.outputs, o)
	}
	m.createBeside()
	defer func() {
		if m.beside != nil {
			err = errors.Join(err, m.beside.Close())
		}
	}()
	if err := m.writeSymbols(ctx); err != nil {
		return nil, err
	}
	if err := m.run(ctx, m.writeUnit); err != nil {
		return nil, err
	}
	m.endBeside(ctx)
	return m.end()
}

// writeSymbols writes the symbols of the outputs: all of them, or those that the series
// of a shard have.
func (m *merge) writeSymbols(ctx context.Context) error {
	n := uint32(0)
	err := mergeSymbols(ctx, m.sources, func(symbol []byte) error {
		if m.beside != nil {
			if err := m.beside.index.addSymbol(symbol); err != nil {
				m.dropBeside(err)
			}
		}
		for i, o := range m.outputs {
			if m.shards != nil && !m.shards[i].symbols.has(n) {
				continue
			}
			if err := o.index.addSymbol(symbol); err != nil {
				return fmt.Errorf("write a symbol of a new block in the work directory: %w", err)
			}
		}
		n++
		return nil
	})
	if err != nil {
		return err
	}
	for _, o := range m.outputs {
		if err := o.index.endSymbols(); err != nil {
			return fmt.Errorf("write the symbols of a new block in the work directory: %w", err)
		}
	}
	if m.beside != nil {
		if err := m.beside.index.endSymbols(); err != nil {
			m.dropBeside(err)
		}
	}
	for _, s := range m.sources {
		s.describe = m.describer()
	}
	return nil
}

// describer returns labels as text, or as numbers if there are several outputs. It may
// be used concurrently once the symbols are complete.
func (m *merge) describer() func([]uint32) string {
	return func(labels []uint32) string {
		if len(m.outputs) != 1 {
			return fmt.Sprint("with the symbols ", labels)
		}
		w := m.outputs[0].index
		var b strings.Builder
		sep := "{"
		for i, l := range labels {
			s, err := w.symbols.Lookup(l)
			if err != nil {
				s = fmt.Sprint("symbol ", l)
			}
			if i%2 == 0 {
				fmt.Fprintf(&b, "%s%s=", sep, s)
				sep = ", "
			} else {
				fmt.Fprintf(&b, "%q", s)
			}
		}
		return b.String() + "}"
	}
}

// merge is one call of Merge.
type merge struct {
	cfg     Config
	buffers buffers
	sources []*source
	// shards are nil for one output.
	shards []*shard
	// place has the shard for each value of the hash.
	place   []int
	outputs []*output
	// beside is the second block, nil if there is none; besideOff says so to the workers.
	beside    *output
	besideOff atomic.Bool
	read      uint64
	counts    dedup.Counts
}

// run starts a goroutine for each source, the aligner and the workers, and calls sink for
// the units, in order, in the goroutine of the caller, whose settings turn faults of
// mapped files into panics. Units and batches are bounded, so a slow stage makes those
// before it wait.
func (m *merge) run(ctx context.Context, sink func(*unit) error) error {
	g, gctx := errgroup.WithContext(ctx)
	inFlight := 2*m.cfg.Workers + 2
	todo, ordered, idle := make(chan *unit, inFlight), make(chan *unit, inFlight), make(chan *unit, inFlight)
	for range inFlight {
		idle <- &unit{done: make(chan struct{}, 1)}
	}
	for _, s := range m.sources {
		s.out = make(chan *batch, 1)
		g.Go(func() error { return s.run(gctx) })
	}
	a := &aligner{todo: todo, ordered: ordered, idle: idle, most: unitBytes}
	g.Go(func() error { return a.run(gctx, m.sources) })
	var workers sync.WaitGroup
	for range m.cfg.Workers {
		w := &worker{merger: dedup.NewPartMerger(m.cfg.Func), pool: aggr.NewPool(), describe: m.describer(), source: m.sources[0], check: m.cfg.Check.Worker(), decodes: m.cfg.Check.DecodesSources(), faults: m.cfg.faults}
		if m.cfg.Convert != nil {
			w.convert = m.cfg.Convert()
		} else if m.beside != nil {
			w.beside, w.besideOff = m.cfg.Beside.Convert(), &m.besideOff
			w.besideCheck, w.besideSource = m.cfg.Beside.Check.Worker(), m.cfg.Beside.Check.Source()
		}
		workers.Go(func() {
			debug.SetPanicOnFault(true)
			w.run(gctx, todo)
		})
	}
	stop := make(chan error, 1)
	g.Go(func() error { // ends the sources when the writer fails
		select {
		case err := <-stop:
			return err
		case <-gctx.Done():
			return nil
		}
	})
	panicked, err := drain(gctx, ordered, idle, sink)
	stop <- err
	gerr := g.Wait()
	workers.Wait()
	if panicked != nil {
		panic(panicked)
	}
	if gerr != nil {
		return gerr // the first error, also when it is that of sink
	}
	return err
}

// drain calls sink for the units. It returns the panic of a worker.
func drain(ctx context.Context, ordered <-chan *unit, idle chan<- *unit, sink func(*unit) error) (panicked any, err error) {
	for {
		var u *unit
		var ok bool
		select {
		case u, ok = <-ordered:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if !ok {
			return nil, ctx.Err()
		}
		select {
		case <-u.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if u.panics != nil || u.err != nil {
			return u.panics, u.err
		}
		if err := sink(u); err != nil {
			return nil, err
		}
		u.release()
		idle <- u // never blocks: the channel holds all units
	}
}

// writeUnit writes the series of a unit and adds its counts.
func (m *merge) writeUnit(u *unit) (err error) {
	m.counts.Add(u.merged)
	if err := m.counts.Probe(); err != nil {
		return err
	}
	if m.cfg.faults.written != nil {
		m.cfg.faults.written(u)
	}
	records := u.out
	for i := range u.series {
		s := &u.series[i]
		o, symbols := m.outputs[0], (*symbolSet)(nil)
		if m.shards != nil {
			n := m.shardOf(s.labels)
			o, symbols = m.outputs[n], &m.shards[n].symbols
		}
		if records, err = o.add(s, records, symbols); err != nil {
			return fmt.Errorf("write a new block in the work directory: %w", err)
		}
	}
	m.addBeside(u)
	if err := m.checkDisk(); err != nil {
		return err
	}
	m.read += u.read
	if m.cfg.Progress != nil {
		m.cfg.Progress(u.read)
	}
	return nil
}

// checkDisk compares the indexes and what is spooled for them with the bound.
func (m *merge) checkDisk() error {
	if m.cfg.Disk <= 0 {
		return nil
	}
	used := int64(0)
	for _, o := range m.outputs {
		// The postings that are spooled are written to the index in the end.
		used += o.index.pos + 2*4*int64(o.index.postings.references)
	}
	if used > m.cfg.Disk {
		return fmt.Errorf("write the index of a new block of %d sources: %w", len(m.sources), m.cfg.Exceeded)
	}
	return nil
}

// end completes the outputs. After a merge it compares the numbers of samples.
func (m *merge) end() ([]Result, error) {
	written := uint64(0)
	for _, o := range m.outputs {
		written += o.result.Stats.NumSamples
	}
	if want := m.read - m.counts.Dropped(); m.cfg.Convert == nil && written != want {
		return nil, fmt.Errorf("the result has %d samples instead of %d", written, want)
	}
	if err := m.counts.Check(); err != nil {
		return nil, err
	}
	out := make([]Result, len(m.outputs))
	for i, o := range m.outputs {
		if err := o.finish(); err != nil {
			return nil, fmt.Errorf("write a new block in the work directory: %w", err)
		}
		out[i] = o.result
	}
	return out, nil
}
