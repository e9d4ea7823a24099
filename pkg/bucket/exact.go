package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// ExactReader returns rc bound to exactly length bytes: fewer are
// io.ErrUnexpectedEOF, more are ErrLength, reported before the last bytes are
// returned. A negative length means unknown and leaves the length unchecked.
// Reads end with the error of ctx once it is cancelled.
func ExactReader(ctx context.Context, rc io.ReadCloser, name string, length int64) io.ReadCloser {
	return &exactReader{ctx: ctx, rc: rc, name: name, want: length, left: length}
}

type exactReader struct {
	ctx  context.Context
	rc   io.ReadCloser
	name string
	want int64
	left int64
	err  error
}

// Read returns an error instead of bytes that contradict the length.
func (e *exactReader) Read(p []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	if e.want < 0 {
		n, err := e.rc.Read(p)
		return n, err
	}
	if e.left == 0 {
		e.err = e.checkEnd()
		return 0, e.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := e.rc.Read(p[:min(int64(len(p)), e.left)])
	e.left -= int64(n)
	if e.left > 0 {
		if errors.Is(err, io.EOF) {
			e.err = fmt.Errorf("read %s: %d of %d bytes: %w", e.name, e.want-e.left, e.want, io.ErrUnexpectedEOF)
			return n, e.err
		}
		return n, err
	}
	// These are the last bytes. They are returned only if the body ends here, so that
	// wrong bytes of a server that ignored the range are not returned.
	if err != nil && !errors.Is(err, io.EOF) {
		e.err = err
		return 0, err
	}
	if errors.Is(err, io.EOF) {
		e.err = io.EOF
		return n, nil
	}
	if e.err = e.checkEnd(); errors.Is(e.err, io.EOF) {
		return n, nil
	}
	return 0, e.err
}

// checkEnd returns io.EOF if the body has no more bytes.
func (e *exactReader) checkEnd() error {
	var one [1]byte
	for range 100 {
		n, err := e.rc.Read(one[:])
		switch {
		case n > 0:
			return fmt.Errorf("read %s: %w: more than the expected %d bytes", e.name, ErrLength, e.want)
		case err != nil:
			return err
		}
	}
	return io.ErrNoProgress
}

func (e *exactReader) Close() error { return e.rc.Close() }
