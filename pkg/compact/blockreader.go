package compact

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/segments"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/samplecheck"
)

// errMemoryFault is a fault of the memory that a local file is mapped into.
var errMemoryFault = errors.New("memory fault")

// blockReader reads the series of a block on the local disk in order of their labels
// and checks them: checksums of index and chunks, the order of series and labels, the
// times of chunks. Damage is a *block.CorruptError.
type blockReader struct {
	meta   *block.Meta
	index  *index.Reader
	chunks *segments.Files
	pool   *aggr.Pool
	all    index.Postings

	builder labels.ScratchBuilder
	// lset and chks are the current series. The chunks are mapped memory, and
	// valid until the next series.
	lset labels.Labels
	chks []chunks.Meta
	// samples counts those of the series so far.
	samples uint64
	// checker decodes the chunks, unless it is nil.
	checker *samplecheck.Checker
	// read is the counter of the job for all its readers.
	read   *atomic.Uint64
	series int
	ended  bool
}

func openBlock(ctx context.Context, dir string, m *block.Meta) (r *blockReader, err error) {
	r = &blockReader{meta: m, pool: aggr.NewPool(), read: readSamples(ctx)}
	defer r.recover(&err)
	if err := r.checkFiles(dir); err != nil {
		return nil, err
	}
	if r.index, err = index.NewFileReader(filepath.Join(dir, block.IndexFile), index.DecodePostingsRaw); err != nil {
		return nil, r.corrupt(reason.BlockIndexCorrupt, "open index: %w", err)
	}
	if r.chunks, err = segments.Open(filepath.Join(dir, block.ChunksDir)); err != nil {
		return nil, errors.Join(r.corrupt(reason.BlockSegmentCorrupt, "open chunks: %w", err), r.index.Close())
	}
	name, value := index.AllPostingsKey()
	if r.all, err = r.index.Postings(ctx, name, value); err != nil {
		return nil, errors.Join(r.corrupt(reason.BlockIndexCorrupt, "list series: %w", err), r.Close())
	}
	return r, nil
}

func (r *blockReader) Close() error { return errors.Join(r.index.Close(), r.chunks.Close()) }

// corrupt makes an error that blames the block, unless its cause is an error of
// the operating system.
func (r *blockReader) corrupt(why reason.Reason, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if localError(err) {
		return fmt.Errorf("read block %s in the work directory: %w", r.meta.ULID, err)
	}
	return &block.CorruptError{ID: r.meta.ULID, Reason: why, Err: err}
}

// recover turns a panic of a decoder into an error: decoders do not check bytes that
// have a checksum.
func (r *blockReader) recover(err *error) {
	p := recover()
	if p == nil {
		return
	}
	if addr, ok := memoryFault(p); ok {
		*err = fmt.Errorf("read block %s in the work directory: its file cannot be read at address %#x: %w", r.meta.ULID, addr, errMemoryFault)
	} else {
		*err = r.corrupt(reason.BlockIndexCorrupt, "decoder failed: %v at %.2000s", p, debug.Stack())
	}
}

// next moves to the next series and says whether there is one.
func (r *blockReader) next() (ok bool, err error) {
	defer r.recover(&err)
	for i := range r.chks {
		if err := r.pool.Put(r.chks[i].Chunk); err != nil {
			return false, err
		}
	}
	r.chks = r.chks[:0]
	if !r.all.Next() {
		r.ended = true
		if err := r.all.Err(); err != nil {
			return false, r.corrupt(reason.BlockIndexCorrupt, "list series: %w", err)
		}
		return false, nil
	}
	if err := r.index.Series(r.all.At(), &r.builder, &r.chks); err != nil {
		r.chks = r.chks[:0]
		return false, r.corrupt(reason.BlockIndexCorrupt, "read series %d: %w", r.all.At(), err)
	}
	last := r.lset
	r.lset = r.builder.Labels()
	if err := checkOrder(last, r.lset, r.series == 0); err != nil {
		return false, r.corrupt(reason.BlockSeriesOutOfOrder, "%w", err)
	}
	r.series++
	before := r.samples
	err = r.load()
	r.read.Add(r.samples - before)
	return true, err
}

func checkOrder(last, lset labels.Labels, first bool) error {
	if !first && labels.Compare(last, lset) >= 0 {
		return fmt.Errorf("series %s comes after %s", lset, last)
	}
	prev := ""
	return lset.Validate(func(l labels.Label) error {
		if l.Name <= prev {
			return fmt.Errorf("series %s: label %q comes after %q", lset, l.Name, prev)
		}
		prev = l.Name
		return nil
	})
}

// load reads the chunks of the series.
func (r *blockReader) load() error {
	for i := range r.chks {
		c := &r.chks[i]
		chk, err := r.chunks.Load(c.Ref, r.pool)
		if err != nil {
			r.chks = r.chks[:i]
			return r.corrupt(reason.BlockChunkCorrupt, "series %s, chunk %d: %w", r.lset, i+1, err)
		}
		c.Chunk = chk
		// The end of the block is exclusive, but old versions of Prometheus wrote
		// the first sample after it into the block.
		if c.MinTime > c.MaxTime || c.MinTime < r.meta.MinTime || c.MaxTime > r.meta.MaxTime {
			r.chks = r.chks[:i+1]
			return r.corrupt(reason.BlockChunkTimes, "series %s, chunk %d: it is from %d to %d, the block from %d to %d",
				r.lset, i+1, c.MinTime, c.MaxTime, r.meta.MinTime, r.meta.MaxTime)
		}
		if err := r.checkSamples(i); err != nil {
			r.chks = r.chks[:i+1]
			return err
		}
		r.samples += uint64(chk.NumSamples())
	}
	return nil
}

// checkSamples decodes a chunk of the series.
func (r *blockReader) checkSamples(i int) error {
	if r.checker == nil {
		return nil
	}
	c := &r.chks[i]
	if err := r.checker.Chunk(c.Chunk.Encoding(), c.Chunk.Bytes(), c.MinTime, c.MaxTime); err != nil {
		return r.corrupt(samplecheck.Reason(err), "series %s, chunk %d: %w", r.lset, i+1, err)
	}
	return nil
}
