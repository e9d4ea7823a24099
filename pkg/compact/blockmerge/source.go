package blockmerge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact/blockcheck"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

const (
	tocSize = 6*8 + crc32.Size
	// smallIndex is the size up to which an index is read by one request.
	smallIndex = 256 << 10
	// maxEntry bounds a series entry, a symbol and a chunk: none that a program writes
	// comes near, and a damaged length must not make the reader allocate more.
	maxEntry = 64 << 20
)

// Source is an input of a merge.
type Source struct {
	Meta *block.Meta
	// Number is the number of the producer, see dedup.Merger.Chunks.
	Number int
}

// source reads one block in the order of its series. Damage is a *block.CorruptError.
type source struct {
	Source
	bkt      bucket.Reader
	files    []block.File // the segments in order
	size     int64        // of the index
	version  byte
	toc      *index.TOC
	whole    []byte // the index, if it is small
	cfg      buffers
	symbols  symbolMap
	describe func([]uint32) string // labels as text, for errors
	// labelsOnly leaves the chunks out.
	labelsOnly bool
	check      *blockcheck.Checker // nil verifies nothing

	free chan *batch
	out  chan *batch
}

// open reads the table of contents of the index, after it has compared the sizes of all
// files with meta.json.
func open(ctx context.Context, bkt bucket.Reader, src Source, cfg buffers) (*source, error) {
	s := &source{Source: src, bkt: bkt, cfg: cfg}
	ix, segments, err := block.Files(ctx, bkt, src.Meta)
	if err != nil {
		return nil, err
	}
	s.size, s.files = ix.SizeBytes, segments
	if ix.Hash != nil && ix.Hash.Func == block.HashSHA256 {
		if err := s.checkHash(ctx, ix); err != nil {
			return nil, err
		}
	}
	if s.size < tocSize+index.HeaderLen {
		if s.size == 0 {
			return nil, s.corrupt(reason.BlockIndexCorrupt, "index is empty")
		}
		return nil, s.corrupt(reason.BlockIndexCorrupt, "index has %d bytes only", s.size)
	}
	tail := make([]byte, min(s.size, smallIndex))
	if s.size > smallIndex {
		tail = tail[:tocSize]
	}
	if err := s.read(ctx, s.size-int64(len(tail)), tail); err != nil {
		return nil, err
	}
	if s.size <= smallIndex {
		s.whole = tail
	}
	if s.toc, err = index.NewTOCFromByteSlice(bytesOf(tail)); err != nil {
		return nil, s.corrupt(reason.BlockIndexCorrupt, "read table of contents: %w", err)
	}
	t, end := s.toc, uint64(s.size-tocSize)
	if t.Symbols < index.HeaderLen || t.Series < t.Symbols || t.Series > end || t.PostingsTable > end {
		return nil, s.corrupt(reason.BlockIndexCorrupt, "table of contents has offsets outside of the index")
	}
	return s, nil
}

// bytesOf is index.ByteSlice over memory.
type bytesOf []byte

// Len implements index.ByteSlice.
func (b bytesOf) Len() int { return len(b) }

// Range implements index.ByteSlice.
func (b bytesOf) Range(start, end int) []byte { return b[start:end] }

// corrupt makes an error that blames the block.
func (s *source) corrupt(why reason.Reason, format string, args ...any) error {
	return &block.CorruptError{ID: s.Meta.ULID, Reason: why, Err: fmt.Errorf(format, args...)}
}

// path is the name of an object of the block.
func (s *source) path(rel string) string { return block.Path(s.Meta.ULID, rel) }

// read fills b from the index.
func (s *source) read(ctx context.Context, off int64, b []byte) error {
	name := s.path(block.IndexFile)
	if err := readRange(ctx, s.bkt, name, off, b); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// section is a stream over a part of the index.
func (s *source) section(ctx context.Context, off, end uint64, window int64) *stream {
	st := newStream(ctx, s.bkt, s.path(block.IndexFile), int64(off), int64(min(end, uint64(s.size))))
	st.window = window
	if s.whole != nil {
		st.cur = s.whole[st.pos:st.end]
	}
	return st
}

// after is the offset of the first section that begins after off.
func (s *source) after(off uint64) uint64 {
	end := uint64(s.size - tocSize)
	for _, o := range []uint64{s.toc.Symbols, s.toc.Series, s.toc.LabelIndices, s.toc.LabelIndicesTable, s.toc.Postings, s.toc.PostingsTable} {
		if o > off {
			end = min(end, o)
		}
	}
	return end
}

// checkHash reads a file whose hash meta.json has, and compares them.
func (s *source) checkHash(ctx context.Context, f block.File) error {
	st := newStream(ctx, s.bkt, s.path(f.RelPath), 0, f.SizeBytes)
	st.window, st.sum = s.cfg.index, sha256.New()
	defer st.close()
	if err := st.drain(); err != nil {
		return err
	}
	return s.compareHash(f, hex.EncodeToString(st.sum.Sum(nil)))
}

// compareHash compares the hash of a file with the one in meta.json.
func (s *source) compareHash(f block.File, sum string) error {
	if strings.EqualFold(sum, f.Hash.Value) {
		return nil
	}
	return s.corrupt(reason.BlockHashMismatch, "%s has SHA-256 %s instead of %s", f.RelPath, sum, f.Hash.Value)
}

// vanished turns the error of an object that does not exist into one about the block:
// another compactor may have deleted all of it.
func (s *source) vanished(ctx context.Context, err error) error {
	if !errors.Is(err, bucket.ErrNotFound) {
		return err
	}
	if _, merr := s.bkt.Stat(ctx, s.path(block.MetaFile)); errors.Is(merr, bucket.ErrNotFound) {
		return fmt.Errorf("block %s was deleted while it was read: %w", s.Meta.ULID, merr)
	}
	return s.corrupt(reason.BlockSizeMismatch, "%w", err)
}
