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

// ErrNoIndex reports that the bucket has no usable block index.
var ErrNoIndex = errors.New("the bucket has no usable block index")

// ReadIndex takes over the entries that another poller wrote into the block index, with
// one GET, and returns their view, after the filters; View.Taken is the time of that
// poller's listing. The next Poll lists the bucket nevertheless and reads all objects
// that differ: it finds blocks of writers that do not write the index, and corrects a
// wrong index. An index that is missing, malformed or older than maxAge is ErrNoIndex,
// and changes nothing.
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

// readIndex reads and decodes the block index, with one goroutine for each CPU.
func (p *Poller) readIndex(ctx context.Context) (known map[ulid.ULID]*entry, taken time.Time, err error) {
	rc, err := p.bkt.Get(ctx, indexName)
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
	p.log.Warn("block index ignored", "file", indexName, "err", err)
	return nil, taken, fmt.Errorf("%w: %w", ErrNoIndex, err)
}

func (p *Poller) internLocked(mu *sync.Mutex) func(string) string {
	return func(s string) string {
		mu.Lock()
		defer mu.Unlock()
		return p.intern(s)
	}
}

// errReader marks errors of the bucket, to distinguish them from those of the format.
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

// WriteIndex writes the entries of the last successful Poll into the bucket, for
// ReadIndex of other pollers, unless this poller wrote or read the same ones last. One
// writer for each bucket suffices; several may write, because each replaces the index
// as a whole.
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
	if err := b.Upload(ctx, indexName, bytes.NewReader(buf.Bytes()), int64(buf.Len())); err != nil {
		return fmt.Errorf("write block index: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken.Equal(taken) {
		p.changed = false
	}
	return nil
}
