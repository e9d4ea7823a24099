package indexheader

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

const (
	// wholeSize is the size up to which an index is read in one request.
	wholeSize = 2 << 20
	// firstRead is the number of bytes that are read first of each end of a larger
	// index; for most blocks the header needs no more.
	firstRead = 1 << 20
	// maxSection bounds the symbols and the postings offset table. Those of the
	// largest indexes, of 64 GiB, are smaller.
	maxSection = 1 << 30
	// maxBlind is the most that is read of a section of unknown length, in bytes.
	maxBlind = 4 << 20
)

// Fetch makes the header of the index object name, which has size bytes, with
// one round of reads when the index is small or of usual shape, and two
// otherwise. ErrCorrupt means that the index is damaged; any other error means that it
// could not be read. Fetch calls seen, which may be nil, with the bytes that it read,
// also concurrently; seen must not keep them.
func Fetch(ctx context.Context, bkt bucket.Reader, name string, size int64, seen func(off int64, b []byte)) (*Header, error) {
	if size < indexHeadSize+tocSize {
		return nil, fmt.Errorf("%w: %s has only %d bytes", ErrCorrupt, name, size)
	}
	r := reader{ctx: ctx, bkt: bkt, name: name, size: size, seen: seen}
	s, err := r.sections()
	if err != nil {
		return nil, err
	}
	b, err := build(s)
	if err != nil {
		return nil, fmt.Errorf("make the header of %s: %w", name, err)
	}
	return parse(b)
}

// reader reads parts of one index.
type reader struct {
	ctx  context.Context
	bkt  bucket.Reader
	name string
	size int64
	seen func(off int64, b []byte)
}

func (r reader) sections() (sections, error) {
	head, tail, err := r.ends()
	if err != nil {
		return sections{}, err
	}
	if err := readHead(head); err != nil {
		return sections{}, fmt.Errorf("read %s: %w", r.name, err)
	}
	t, err := readTOC(tail, r.size)
	if err != nil {
		return sections{}, fmt.Errorf("read %s: %w", r.name, err)
	}
	s := sections{size: r.size, version: head[4], toc: t}
	g, ctx := errgroup.WithContext(r.ctx)
	r.ctx = ctx
	g.Go(func() (err error) {
		s.symbols, err = r.upTo(head, 0, t.symbols, t.series)
		return err
	})
	g.Go(func() (err error) {
		s.postings, err = r.upTo(tail, r.size-int64(len(tail)), t.postingsTable, r.size-tocSize)
		return err
	})
	return s, g.Wait()
}

// ends reads the beginning and the end of the index; they may overlap.
func (r reader) ends() (head, tail []byte, err error) {
	if r.size <= wholeSize {
		b, err := r.read(0, r.size)
		return b, b, err
	}
	g, ctx := errgroup.WithContext(r.ctx)
	r.ctx = ctx
	g.Go(func() (err error) {
		head, err = r.read(0, firstRead)
		return err
	})
	g.Go(func() (err error) {
		tail, err = r.read(r.size-firstRead, firstRead)
		return err
	})
	return head, tail, g.Wait()
}

// upTo returns the section of the index that begins at off and ends before
// limit. have holds the bytes of the index from haveOff on; upTo reads the missing
// ones.
func (r reader) upTo(have []byte, haveOff, off, limit int64) ([]byte, error) {
	haveEnd := haveOff + int64(len(have))
	if off >= haveOff && off+4 <= haveEnd {
		length := 4 + int64(binary.BigEndian.Uint32(have[off-haveOff:])) + crcSize
		if err := r.checkLength(off, length, limit); err != nil {
			return nil, err
		}
		if off+length <= haveEnd {
			return have[off-haveOff : off-haveOff+length], nil
		}
		return r.rest(have[off-haveOff:], off, off+length)
	}
	if limit-off > maxBlind {
		first, err := r.read(off, 4)
		if err != nil {
			return nil, err
		}
		length := 4 + int64(binary.BigEndian.Uint32(first)) + crcSize
		if err := r.checkLength(off, length, limit); err != nil {
			return nil, err
		}
		return r.read(off, length)
	}
	if off < haveOff && limit > haveOff {
		// The end of the section was read, its beginning was not.
		b := make([]byte, limit-off)
		first, err := r.read(off, haveOff-off)
		if err != nil {
			return nil, err
		}
		copy(b[copy(b, first):], have)
		return b, nil
	}
	if limit-off < 4+crcSize {
		return nil, fmt.Errorf("%w: %s: section at %d is too short", ErrCorrupt, r.name, off)
	}
	return r.read(off, limit-off)
}

// checkLength says whether a section at off can have the length that it claims.
func (r reader) checkLength(off, length, limit int64) error {
	switch {
	case length > limit-off:
		return fmt.Errorf("%w: %s: section at %d with %d bytes leaves its bounds", ErrCorrupt, r.name, off, length)
	case length > maxSection:
		return fmt.Errorf("%w: %s: section at %d has %d bytes, more than %d", ErrCorrupt, r.name, off, length, int64(maxSection))
	}
	return nil
}

// rest completes a section whose first bytes were read.
func (r reader) rest(first []byte, off, end int64) ([]byte, error) {
	b := make([]byte, end-off)
	n := copy(b, first)
	more, err := r.read(off+int64(n), end-off-int64(n))
	if err != nil {
		return nil, err
	}
	copy(b[n:], more)
	return b, nil
}

// read returns bytes of the index. The range must lie in the object, whose size bounds
// the allocation.
func (r reader) read(off, length int64) (b []byte, err error) {
	rc, err := r.bkt.GetRange(r.ctx, r.name, off, length)
	if err != nil {
		return nil, fmt.Errorf("read %d bytes of %s at %d: %w", length, r.name, off, err)
	}
	defer rc.Close()
	b = make([]byte, length)
	if _, err := io.ReadFull(rc, b); err != nil {
		return nil, fmt.Errorf("read %d bytes of %s at %d: %w", length, r.name, off, err)
	}
	if r.seen != nil {
		r.seen(off, b)
	}
	return b, nil
}
