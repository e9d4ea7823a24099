package blocklist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// ErrNoIndex says that the bucket has no block index that can be used.
var ErrNoIndex = errors.New("the bucket has no usable block index")

// ReadIndex learns with one GET what another poller knew when it wrote the
// block index, and returns it as a view, after the filters; View.Taken is the
// time of that poller's listing. The next Poll lists the bucket all the same
// and corrects what has changed since, so that blocks of writers that know
// nothing of the index are seen, and a wrong index costs no more than reads. An
// index that is missing, malformed or older than maxAge is ErrNoIndex, and
// nothing is learned.
func (p *Poller) ReadIndex(ctx context.Context, maxAge time.Duration) (*View, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, taken, err := p.readIndex(ctx)
	if err != nil {
		return nil, err
	}
	if age := time.Since(taken); age > maxAge {
		return nil, fmt.Errorf("%w: it is %s old, more than %s", ErrNoIndex, age.Round(time.Second), maxAge)
	}
	p.known = known
	return p.view(taken), nil
}

func (p *Poller) readIndex(ctx context.Context) (known map[ulid.ULID]*entry, taken time.Time, err error) {
	rc, err := p.bkt.Get(ctx, IndexName)
	if errors.Is(err, bucket.ErrNotFound) {
		return nil, taken, fmt.Errorf("%w: %w", ErrNoIndex, err)
	}
	if err != nil {
		return nil, taken, fmt.Errorf("read block index: %w", err)
	}
	defer func() { err = errors.Join(err, rc.Close()) }()

	var (
		mu sync.Mutex
		g  errgroup.Group
	)
	g.SetLimit(runtime.GOMAXPROCS(0))
	known = map[ulid.ULID]*entry{}
	h, err := decodeIndex(errReader{rc}, func(line []byte) error {
		g.Go(func() error {
			id, e, err := decodeEntry(line, p.internLocked(&mu))
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			known[id] = e
			return nil
		})
		return ctx.Err()
	})
	err = errors.Join(err, g.Wait())
	var rerr readError
	switch {
	case err == nil:
		return known, h.Taken, nil
	case ctx.Err() != nil:
		return nil, taken, ctx.Err()
	case errors.As(err, &rerr):
		return nil, taken, fmt.Errorf("read block index: %w", rerr.error)
	}
	p.log.Warn("block index is left alone; every block is read instead", "object", IndexName, "err", err)
	return nil, taken, fmt.Errorf("%w: %w", ErrNoIndex, err)
}

func (p *Poller) internLocked(mu *sync.Mutex) func(string) string {
	return func(s string) string {
		mu.Lock()
		defer mu.Unlock()
		return p.intern(s)
	}
}

// errReader marks errors of the bucket, to be told from those of the format.
type errReader struct{ r io.Reader }

type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

func (e errReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = readError{err}
	}
	return n, err
}

// WriteIndex writes what the last successful Poll has found into the bucket,
// for ReadIndex of others, unless that is what this poller wrote or read last.
// One writer for each bucket is enough, but several do no harm: an index is
// replaced as a whole, and none is more than a hint.
func (p *Poller) WriteIndex(ctx context.Context, b bucket.Bucket) error {
	p.mu.Lock()
	known, taken, changed := p.known, p.taken, p.changed
	p.mu.Unlock()
	if taken.IsZero() || !changed {
		return nil
	}
	var buf bytes.Buffer
	if err := encodeIndex(&buf, known, taken); err != nil {
		return fmt.Errorf("encode block index: %w", err)
	}
	if err := b.Upload(ctx, IndexName, bytes.NewReader(buf.Bytes()), int64(buf.Len())); err != nil {
		return fmt.Errorf("write block index: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken.Equal(taken) {
		p.changed = false
	}
	return nil
}
