package blockrewrite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/segments"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// reader reads the series of a block on the local disk, in order of their labels.
type reader struct {
	meta   *block.Meta
	index  *index.Reader
	chunks *segments.Files
	pool   *aggr.Pool
	all    index.Postings

	builder labels.ScratchBuilder
	// The current series. Its chunks have data after load: mapped memory, valid until
	// Close.
	ref    storage.SeriesRef
	lset   labels.Labels
	chks   []chunks.Meta
	loaded bool
}

func open(ctx context.Context, dir string, m *block.Meta) (r *reader, err error) {
	// Verify checks every checksum, the order of series, and the frame of each chunk.
	if _, err := block.Verify(ctx, dir); err != nil {
		return nil, fmt.Errorf("verify block %s before it is rewritten: %w", m.ULID, err)
	}
	r = &reader{meta: m, pool: aggr.NewPool()}
	defer r.recover(&err)
	if r.index, err = index.NewFileReader(filepath.Join(dir, block.IndexFile), index.DecodePostingsRaw); err != nil {
		return nil, r.corrupt(reason.BlockIndexCorrupt, fmt.Errorf("open index: %w", err))
	}
	if r.chunks, err = segments.Open(filepath.Join(dir, block.ChunksDir)); err != nil {
		return nil, errors.Join(r.corrupt(reason.BlockSegmentCorrupt, fmt.Errorf("open chunks: %w", err)), r.index.Close())
	}
	return r, nil
}

func (r *reader) Close() error { return errors.Join(r.index.Close(), r.chunks.Close()) }

// rewind starts again before the first series.
func (r *reader) rewind(ctx context.Context) (err error) {
	defer r.recover(&err)
	name, value := index.AllPostingsKey()
	if r.all, err = r.index.Postings(ctx, name, value); err != nil {
		return r.corrupt(reason.BlockIndexCorrupt, fmt.Errorf("list series: %w", err))
	}
	return nil
}

// next moves to the next series.
func (r *reader) next() (ok bool, err error) {
	defer r.recover(&err)
	if !r.all.Next() {
		if err := r.all.Err(); err != nil {
			return false, r.corrupt(reason.BlockIndexCorrupt, fmt.Errorf("list series: %w", err))
		}
		return false, nil
	}
	return true, r.at(r.all.At())
}

// at moves to a series.
func (r *reader) at(ref storage.SeriesRef) (err error) {
	defer r.recover(&err)
	r.ref, r.loaded = ref, false
	if err := r.index.Series(ref, &r.builder, &r.chks); err != nil {
		return r.corrupt(reason.BlockIndexCorrupt, fmt.Errorf("read series %d: %w", ref, err))
	}
	r.lset = r.builder.Labels()
	return nil
}

// load reads the chunks of the current series.
func (r *reader) load() (err error) {
	if r.loaded {
		return nil
	}
	defer r.recover(&err)
	for i := range r.chks {
		chk, err := r.chunks.Load(r.chks[i].Ref, r.pool)
		if err != nil {
			return r.corruptChunk(fmt.Errorf("series %s, chunk %d: %w", r.lset, i+1, err))
		}
		r.chks[i].Chunk = chk
	}
	r.loaded = true
	return nil
}

func (r *reader) corruptChunk(err error) error { return r.corrupt(reason.BlockChunkCorrupt, err) }

// corrupt blames the block, unless the cause is an error of the operating system.
func (r *reader) corrupt(why reason.Reason, err error) error {
	var (
		path  *fs.PathError
		errno syscall.Errno
	)
	if errors.As(err, &path) || errors.As(err, &errno) {
		return fmt.Errorf("read block %s: %w", r.meta.ULID, err)
	}
	return &block.CorruptError{ID: r.meta.ULID, Reason: why, Err: err}
}

// recover turns a panic of a decoder into an error: decoders do not check bytes that
// have a checksum.
func (r *reader) recover(err *error) {
	if p := recover(); p != nil {
		*err = r.corrupt(reason.BlockIndexCorrupt, fmt.Errorf("decoder failed: %v at %.2000s", p, debug.Stack()))
	}
}
