package headerbundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block/indexheader"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// Reader finds the headers of blocks in the bundles of a bucket. It may be used
// concurrently.
type Reader struct {
	bkt bucket.Reader

	mu   sync.Mutex
	seen map[string][]entry // by bundle; without entries when it is unusable
	byID map[ulid.ULID]*bundle
}

// bundle is one that has headers of blocks that are wanted.
type bundle struct {
	object
	entries []entry
	lock    chan struct{} // held, by sending, while it is read
	read    bool          // guarded by lock
}

// NewReader makes a reader that knows no bundle yet.
func NewReader(bkt bucket.Reader) *Reader {
	return &Reader{bkt: bkt, seen: map[string][]entry{}}
}

// Sync lists the bundles and reads the directories of new ones. The error joins those of
// bundles that cannot be used, which are left out.
func (r *Reader) Sync(ctx context.Context) error {
	objects, err := list(ctx, r.bkt)
	if err != nil {
		return err
	}
	r.mu.Lock()
	known := r.seen
	r.mu.Unlock()
	seen, byID := map[string][]entry{}, map[ulid.ULID]*bundle{}
	var errs []error
	for _, o := range objects {
		entries, ok := known[o.name]
		if !ok {
			if entries, err = readDirectory(ctx, r.bkt, o); err != nil {
				errs = append(errs, err)
				if !errors.Is(err, errCorrupt) {
					continue // read it again at the next sync
				}
			}
		}
		seen[o.name] = entries
		b := &bundle{object: o, entries: entries, lock: make(chan struct{}, 1)}
		for _, e := range entries {
			byID[e.id] = b
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen, r.byID = seen, byID
	return errors.Join(errs...)
}

// Fetch reads the bundle that has the header of a block with one request, and calls got
// with its headers, one at a time; got owns them. It does nothing when no bundle has the
// block, or when the bundle was read since the last Sync. The error joins those of
// headers that cannot be used.
func (r *Reader) Fetch(ctx context.Context, id ulid.ULID, got func(ulid.ULID, *indexheader.Header)) error {
	r.mu.Lock()
	b := r.byID[id]
	r.mu.Unlock()
	if b == nil {
		return nil
	}
	select {
	case b.lock <- struct{}{}:
		defer func() { <-b.lock }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if b.read {
		return nil
	}
	err := r.fetch(ctx, b, got)
	b.read = ctx.Err() == nil
	return err
}

func (r *Reader) fetch(ctx context.Context, b *bundle, got func(ulid.ULID, *indexheader.Header)) (err error) {
	rc, err := r.bkt.GetRange(ctx, b.name, b.directory, b.size-b.directory)
	if err != nil {
		return fmt.Errorf("read %s: %w", b.name, err)
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	var errs []error
	for _, e := range b.entries {
		buf := make([]byte, e.stored)
		if _, err := io.ReadFull(rc, buf); err != nil {
			return errors.Join(append(errs, fmt.Errorf("read %s: %w", b.name, err))...)
		}
		h, err := unpack(e, buf)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		got(e.id, h)
	}
	return errors.Join(errs...)
}
