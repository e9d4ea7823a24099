package blockmerge

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/dedup"
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
	// SegmentSize is the size of a segment of the result; 0 means 512 MiB.
	SegmentSize int64
	// Limits are those of the index; 0 means formatLimits.
	Limits Limits
	// Progress, unless it is nil, is called with the number of samples of the sources
	// that were merged since the last call.
	Progress func(samples uint64)
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
	if c.SegmentSize <= 0 {
		c.SegmentSize = chunks.DefaultChunkSegmentSize
	}
	if c.Limits == (Limits{}) {
		c.Limits = formatLimits()
	}
	return c
}

// Result describes a merge.
type Result struct {
	// Stats are those of the result for its meta.json.
	Stats tsdb.BlockStats
	// Read counts the samples of the sources.
	Read uint64
	// ChunkMaxSize is the size of the largest chunk in bytes.
	ChunkMaxSize int64
}

// Merge writes the series of all sources to out, each once, in order. It copies chunks
// that overlap no others of their series. The caller has the meta.json written, and
// removes the directory of out after an error.
//
// A damaged source is a *block.CorruptError, sources that are no copies
// dedup.ErrNotCopies. Merge panics when a decoder of samples does.
func Merge(ctx context.Context, bkt bucket.Reader, sources []Source, out Output, cfg Config) (_ Result, err error) {
	cfg = cfg.withDefaults()
	m := &merge{cfg: cfg, buffers: buffersFor(cfg.Memory, len(sources))}
	o, err := newOutput(out, cfg)
	if err != nil {
		return Result{}, fmt.Errorf("create a new block in the work directory: %w", err)
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	for _, src := range sources {
		s, err := open(ctx, bkt, src, m.buffers)
		if err != nil {
			return Result{}, err
		}
		s.describe = describer(o.index)
		m.sources = append(m.sources, s)
	}
	if err := mergeSymbols(ctx, m.sources, o.index.addSymbol); err != nil {
		return Result{}, err
	}
	if err := o.index.endSymbols(); err != nil {
		return Result{}, fmt.Errorf("write the symbols of a new block in the work directory: %w", err)
	}
	return m.run(ctx, o)
}

// describer returns labels as text. It may be used concurrently once the symbols are
// complete.
func describer(w *indexWriter) func([]uint32) string {
	return func(labels []uint32) string {
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
	result  Result
	counts  dedup.Counts
}

// run starts a goroutine for each source, the aligner and the workers, and writes the
// units in the goroutine of the caller, whose settings turn faults of mapped files into
// panics. Units and batches are bounded, so a slow stage makes those before it wait.
func (m *merge) run(ctx context.Context, o *output) (Result, error) {
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
		w := &worker{merger: dedup.NewPartMerger(m.cfg.Func), pool: aggr.NewPool(), describe: describer(o.index)}
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
	panicked, err := m.write(gctx, ordered, idle, o)
	stop <- err
	gerr := g.Wait()
	workers.Wait()
	if panicked != nil {
		panic(panicked)
	}
	if gerr != nil {
		return Result{}, gerr // the first error, also when it is that of the writer
	}
	if err != nil {
		return Result{}, err
	}
	return m.end(o)
}

// write writes the units in order. It returns the panic of a worker.
func (m *merge) write(ctx context.Context, ordered <-chan *unit, idle chan<- *unit, o *output) (panicked any, err error) {
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
		if err := m.writeUnit(u, o); err != nil {
			return nil, err
		}
		u.release()
		idle <- u // never blocks: the channel holds all units
	}
}

// writeUnit writes the series of a unit and adds its counts.
func (m *merge) writeUnit(u *unit, o *output) (err error) {
	m.counts.Add(u.merged)
	if err := m.counts.Probe(); err != nil {
		return err
	}
	records := u.out
	for i := range u.series {
		if records, err = o.add(&u.series[i], records); err != nil {
			return fmt.Errorf("write a new block in the work directory: %w", err)
		}
	}
	m.result.Read += u.counts.read
	if m.cfg.Progress != nil {
		m.cfg.Progress(u.counts.read)
	}
	m.result.ChunkMaxSize = max(m.result.ChunkMaxSize, int64(u.counts.chunkMaxSize))
	o.stats.NumSamples += u.counts.written
	o.stats.NumFloatSamples += u.counts.floats
	o.stats.NumHistogramSamples += u.counts.histograms
	return nil
}

// end completes the output and compares the numbers of samples.
func (m *merge) end(o *output) (Result, error) {
	if want := m.result.Read - m.counts.Dropped(); o.stats.NumSamples != want {
		return Result{}, fmt.Errorf("the result has %d samples instead of %d", o.stats.NumSamples, want)
	}
	if err := m.counts.Check(); err != nil {
		return Result{}, err
	}
	if err := o.finish(); err != nil {
		return Result{}, fmt.Errorf("write a new block in the work directory: %w", err)
	}
	m.result.Stats = o.stats
	return m.result, nil
}
