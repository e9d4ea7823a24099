package blockmerge

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// stream reads a range of an object from its beginning to its end. It fetches whole
// windows and one of them ahead, so it holds two. It is used by one goroutine.
type stream struct {
	ctx    context.Context
	bkt    bucket.Reader
	name   string
	window int64
	pos    int64 // of the next unread byte
	end    int64
	// sum, unless it is nil, gets every byte from the beginning to the end.
	sum hash.Hash

	// Unread bytes: those of cur, then those of rest.
	cur, rest []byte
	held      []byte // the window in which rest lies
	join      []byte // holds bytes of two windows
	ahead     *fetcher
}

// newStream reads from off to end.
func newStream(ctx context.Context, bkt bucket.Reader, name string, off, end int64) *stream {
	return &stream{ctx: ctx, bkt: bkt, name: name, pos: off, end: max(off, end), window: minWindow}
}

// left is the number of unread bytes.
func (s *stream) left() int64 { return s.end - s.pos }

// peek returns the next n bytes without reading them, fewer only at the end. They
// are valid until the next call of a method.
func (s *stream) peek(n int) ([]byte, error) {
	for len(s.cur) < n && s.pos+int64(len(s.cur)) < s.end {
		if len(s.rest) == 0 {
			if err := s.advance(); err != nil {
				return nil, err
			}
		}
		if len(s.cur) == 0 {
			s.cur, s.rest = s.rest, nil
			continue
		}
		take := min(n-len(s.cur), len(s.rest))
		s.join = append(append(s.join[:0], s.cur...), s.rest[:take]...)
		s.cur, s.rest = s.join, s.rest[take:]
	}
	return s.cur[:min(n, len(s.cur))], nil
}

// advance takes the next window. It gives the one before it back.
func (s *stream) advance() error {
	if s.ahead == nil {
		s.ahead = s.fetch(s.pos + int64(len(s.cur)))
	}
	if len(s.cur) > 0 {
		s.join = append(s.join[:0], s.cur...)
		s.cur = s.join
	}
	if s.held != nil {
		s.ahead.free <- s.held // never blocks: the channel holds all windows
		s.held = nil
	}
	select {
	case w := <-s.ahead.full:
		if w.err != nil {
			return fmt.Errorf("read %s: %w", s.name, w.err)
		}
		s.held, s.rest = w.b, w.b
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// take reads n bytes. Fewer are left only when the caller did not ask left.
func (s *stream) take(n int) ([]byte, error) {
	b, err := s.peek(n)
	if err != nil {
		return nil, err
	}
	if len(b) < n {
		return nil, fmt.Errorf("read %s at %d: %w", s.name, s.pos, io.ErrUnexpectedEOF)
	}
	s.cur = s.cur[n:]
	s.pos += int64(n)
	return b, nil
}

// seek moves to an offset within the range. Short ways forward are read.
func (s *stream) seek(off int64) error {
	if off < s.pos || off > s.pos+2*s.window && s.sum == nil {
		s.close()
		s.sum = nil // not every byte is read once
		s.pos, s.cur, s.rest = off, nil, nil
		return nil
	}
	for s.pos < off {
		n := min(off-s.pos, s.window)
		if _, err := s.take(int(n)); err != nil {
			return err
		}
	}
	return nil
}

// drain reads the rest.
func (s *stream) drain() error { return s.seek(s.end) }

// close ends the fetching and waits for its goroutine.
func (s *stream) close() {
	if s.ahead == nil {
		return
	}
	s.ahead.stop()
	<-s.ahead.done
	s.ahead, s.held = nil, nil
}

// fetcher reads windows ahead of a stream.
type fetcher struct {
	full chan window
	free chan []byte
	stop context.CancelFunc
	done chan struct{}
}

// window is a piece of an object, or the error of reading it.
type window struct {
	b   []byte
	err error
}

// fetch starts to read windows from off on.
func (s *stream) fetch(off int64) *fetcher {
	ctx, stop := context.WithCancel(s.ctx)
	f := &fetcher{full: make(chan window, 1), free: make(chan []byte, 2), stop: stop, done: make(chan struct{})}
	size, end := min(s.window, s.end-off), s.end
	f.free <- make([]byte, size)
	if s.end-off > size {
		f.free <- make([]byte, size)
	}
	go func() {
		defer close(f.done)
		f.run(ctx, s, off, end)
	}()
	return f
}

// run fetches windows up to end, an error, or the cancellation.
func (f *fetcher) run(ctx context.Context, s *stream, off, end int64) {
	for off < end {
		var b []byte
		select {
		case b = <-f.free:
		case <-ctx.Done():
			return
		}
		b = b[:min(int64(cap(b)), end-off)]
		err := readRange(ctx, s.bkt, s.name, off, b)
		if err == nil && s.sum != nil {
			_, err = s.sum.Write(b)
		}
		select {
		case f.full <- window{b: b, err: err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
		off += int64(len(b))
	}
}

// readRange fills b with the bytes of an object from off on.
func readRange(ctx context.Context, bkt bucket.Reader, name string, off int64, b []byte) (err error) {
	rc, err := bkt.GetRange(ctx, name, off, int64(len(b)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	if n, err := io.ReadFull(rc, b); err != nil {
		return fmt.Errorf("%d of %d bytes from %d on: %w", n, len(b), off, err)
	}
	return nil
}
