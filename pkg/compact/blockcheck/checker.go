package blockcheck

import (
	"fmt"
	"slices"
	"sync"

	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// ErrMismatch says that a result does not have the samples of its sources. Test with
// errors.Is.
var ErrMismatch = errorid.Sentinel(errorid.BlockMismatch, "result differs from its sources")

// ErrUpload says that the bucket does not give back the bytes that were uploaded, in two
// requests. The sources have no part in it. Test with errors.Is.
var ErrUpload = errorid.Sentinel(errorid.BlockUpload, "upload differs from what was written")

// notUploaded is an ErrUpload with the first difference.
func notUploaded(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUpload, fmt.Sprintf(format, args...))
}

// mismatch is an ErrMismatch with the first difference.
func mismatch(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMismatch, fmt.Sprintf(format, args...))
}

// Mode says how much is verified.
type Mode string

const (
	// Full decodes all chunks that a worker merged with the decoders of Prometheus, and
	// reads all chunks of the result back.
	Full Mode = "full"
	// Sample decodes them with faster decoders, except those of one series of 64, and
	// reads the index and the chunks of a sample of the series back.
	Sample Mode = "sample"
	// None verifies nothing.
	None Mode = "none"
)

// Config configures a Checker.
type Config struct {
	Mode Mode
	// Func is the function by which the merge chooses between sources.
	Func dedup.Func
	// Resolution is that of the result in milliseconds if it is downsampled, From that of
	// its source, 0 for raw samples.
	Resolution, From int64
	// Series is about the number of series of the sources. Sample reads the chunks of
	// about 256 of them back.
	Series uint64
}

const (
	// decodeShare and readShare are one in how many series is in the sample, at most.
	decodeShare = 64
	readShare   = 64
	// holesShare is one in how many series is searched for holes also when its result is
	// the first replica as it is.
	holesShare = 4
	// readSeries is about the number of series that are read back.
	readSeries = 256
)

// Checker verifies one merge or downsampling. A nil Checker verifies nothing. Sources, Workers and
// Outputs are each used by one goroutine, different ones concurrently; Verify is called
// after the end of all of them.
type Checker struct {
	cfg     Config
	every   uint64 // one in so many series is read back
	mu      sync.Mutex
	read    sums // of the chunks of the sources
	outputs []*Output
}

// New returns a checker, nil for None.
func New(cfg Config) *Checker {
	if cfg.Mode == None {
		return nil
	}
	every := max(readShare, cfg.Series/readSeries)
	if cfg.Mode == Full {
		every = 1
	}
	return &Checker{cfg: cfg, every: every}
}

// DecodesSources says whether a merge is to decode all chunks of its sources.
func (c *Checker) DecodesSources() bool { return c != nil && c.cfg.Mode == Full }

// Source digests the chunks of a source.
type Source struct {
	c *Checker
	sums
}

// Source returns the digest of another source, or of a part of one.
func (c *Checker) Source() *Source {
	if c == nil {
		return nil
	}
	return &Source{c: c}
}

// Read adds a chunk of a series.
func (s *Source) Read(series uint64, chk *Chunk) { s.add(series, chk.hash(series)) }

// Close adds the digest to that of all sources.
func (s *Source) Close() { s.c.close(&s.sums) }

func (c *Checker) close(s *sums) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read.addAll(s)
}

// Output digests what is written of a result.
type Output struct {
	c *Checker
	// chunks is compared with the sources, index and records with what the bucket has.
	chunks, index, records sums
	any                    bool
}

// Output returns the digest of the next output.
func (c *Checker) Output() *Output {
	if c == nil {
		return nil
	}
	o := &Output{c: c}
	c.outputs = append(c.outputs, o)
	return o
}

// Wrote adds a chunk of a series whose record was written at a reference.
func (o *Output) Wrote(series uint64, chk *Chunk, ref uint64) {
	h := times(series, chk.MinTime, chk.MaxTime)
	o.chunks.add(series, chk.after(h))
	o.index.add(series, entry(h, ref))
	if o.readsBack(series) {
		o.records.add(series, record(ref, chk.Sum))
	}
	o.any = true
}

// readsBack says whether the chunks of a series are compared in the bucket.
func (o *Output) readsBack(series uint64) bool { return series%o.c.every == 0 }

// Input is a chunk of a source.
type Input struct {
	Chunk
	// Source is the number of the producer, see dedup.Merger.Chunks.
	Source int
}

// Worker compares the chunks that are made of others.
type Worker struct {
	c *Checker
	sums
	in, out []uint64
	sorted  []Input
	columns []column
	result  column
	decoder decoder
	// recomputed says that the aggregates of a series of floats, and of histograms, were.
	recomputed [2]bool
}

// Worker returns one for another goroutine.
func (c *Checker) Worker() *Worker {
	if c == nil {
		return nil
	}
	return &Worker{c: c}
}

// Close adds what the worker has changed to the digest of the sources.
func (w *Worker) Close() { w.c.close(&w.sums) }

// Changed compares the chunks of a series in the result with those of the sources that
// they were made of. Its error is an ErrMismatch, or about a chunk that cannot be decoded.
func (w *Worker) Changed(series uint64, in []Input, out []Chunk) error {
	w.changed(series, in, out)
	for i := 1; i < len(out); i++ {
		if out[i].MinTime <= out[i-1].MaxTime {
			return mismatch("chunk %d of the result begins at %d, before the end of the one before it", i+1, out[i].MinTime)
		}
	}
	if w.c.cfg.Resolution > 0 {
		return w.downsampled(series, in, out)
	}
	if w.c.cfg.Mode == Sample && series%holesShare != 0 && w.isFirst(in) {
		return nil
	}
	slices.Sort(w.in)
	w.in = slices.Compact(w.in) // of equal chunks one is kept
	slices.Sort(w.out)
	if slices.Equal(w.in, w.out) {
		return nil
	}
	return w.samples(series, in, out)
}

// isFirst says whether the result of a merge of replicas has all chunks of the first one as
// they are and no others, before the hashes are sorted: then each of its samples is one of
// a source, and none of the first replica is missing.
func (w *Worker) isFirst(in []Input) bool {
	if w.c.cfg.Func != dedup.FuncCoverage || len(in) == 0 {
		return false
	}
	first := in[0].Source
	for i := range in {
		first = min(first, in[i].Source)
	}
	k := 0
	for i := range in {
		if in[i].Source != first {
			continue
		}
		if k == len(w.out) || w.in[i] != w.out[k] {
			return false
		}
		k++
	}
	return k == len(w.out)
}

// changed replaces the chunks of the sources by those of the result in the digest.
func (w *Worker) changed(series uint64, in []Input, out []Chunk) {
	w.in, w.out = w.in[:0], w.out[:0]
	for i := range in {
		h := in[i].hash(series)
		w.remove(series, h)
		w.in = append(w.in, h)
	}
	for i := range out {
		h := out[i].hash(series)
		w.add(series, h)
		w.out = append(w.out, h)
	}
}
