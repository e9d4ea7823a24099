package blockscan

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

const (
	// pageSize is what is read at once for small ranges: entries of series follow each
	// other.
	pageSize = 256 << 10
	// maxPages and maxLarge bound what is kept.
	maxPages = 128
	maxLarge = 4
	// maxRange bounds one section of an index; those of the largest ones are smaller.
	maxRange = 1 << 30
)

// readError is the panic of a failed read: index.ByteSlice has no errors.
type readError struct{ err error }

// remote is an index.ByteSlice over an object. It belongs to one goroutine.
type remote struct {
	ctx   context.Context
	bkt   bucket.Reader
	name  string
	size  int
	pages map[int][]byte
	order []int // of pages, oldest first
	large []section
}

type section struct {
	start, end int
	b          []byte
}

func newRemote(ctx context.Context, bkt bucket.Reader, name string, size int64) *remote {
	return &remote{ctx: ctx, bkt: bkt, name: name, size: int(size), pages: map[int][]byte{}}
}

// Len implements index.ByteSlice.
func (r *remote) Len() int { return r.size }

// Range implements index.ByteSlice. It panics with a *readError. The bytes stay valid.
func (r *remote) Range(start, end int) []byte {
	if start < 0 || end < start || end > r.size || end-start > maxRange {
		panic(&readError{fmt.Errorf("index refers to bytes %d to %d of %d", start, end, r.size)})
	}
	if end-start > pageSize {
		return r.section(start, end)
	}
	first, last := start/pageSize, max(start, end-1)/pageSize
	b := r.page(first)
	if first == last {
		return b[start-first*pageSize : end-first*pageSize : end-first*pageSize]
	}
	out := make([]byte, 0, end-start)
	out = append(out, b[start-first*pageSize:]...)
	return append(out, r.page(last)[:end-last*pageSize]...)
}

// section returns a range that is larger than a page. The table of postings is read for
// each label.
func (r *remote) section(start, end int) []byte {
	for _, s := range r.large {
		if s.start <= start && end <= s.end {
			return s.b[start-s.start : end-s.start : end-s.start]
		}
	}
	if len(r.large) == maxLarge {
		r.large = r.large[1:]
	}
	r.large = append(r.large, section{start, end, r.read(start, end)})
	return r.large[len(r.large)-1].b
}

func (r *remote) page(i int) []byte {
	if b, ok := r.pages[i]; ok {
		return b
	}
	if len(r.order) == maxPages {
		delete(r.pages, r.order[0])
		r.order = r.order[1:]
	}
	b := r.read(i*pageSize, min((i+1)*pageSize, r.size))
	r.pages[i], r.order = b, append(r.order, i)
	return b
}

func (r *remote) read(start, end int) []byte {
	rc, err := r.bkt.GetRange(r.ctx, r.name, int64(start), int64(end-start))
	if err != nil {
		panic(&readError{err})
	}
	b := make([]byte, end-start)
	_, err = io.ReadFull(rc, b)
	if err = errors.Join(err, rc.Close()); err != nil {
		panic(&readError{fmt.Errorf("read %s: %w", r.name, err)})
	}
	return b
}
