package bucketblock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block/indexheader"
	"github.com/hindsight-io/hindsight/pkg/store/pagecache"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// headerState is the index header of a block: absent until first used, shared
// while in use, and unloaded when idle.
type headerState struct {
	lock chan struct{} // held, by sending, while the header is being loaded
	// Under Block.mu:
	h        *indexheader.Header
	users    int
	lastUsed time.Time
	// fromIndex says that the block's own index was read for the header, and distrusted
	// that the block seemed damaged with another one, which may be the header's fault.
	fromIndex, distrusted bool
}

// acquireHeader returns the header, which it loads if necessary. It stays valid until
// releaseHeader.
func (b *Block) acquireHeader(ctx context.Context) (*indexheader.Header, error) {
	if h := b.takeHeader(); h != nil {
		return h, nil
	}
	select {
	case b.header.lock <- struct{}{}:
		defer func() { <-b.header.lock }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if h := b.takeHeader(); h != nil {
		return h, nil
	}
	h, err := b.loadHeader(ctx)
	if errors.Is(err, indexheader.ErrCorrupt) {
		// The damage may have happened in transit. The owner of the block does not
		// read a damaged one for minutes.
		h, err = b.loadHeader(ctx)
	}
	if err != nil {
		return nil, b.fail(PartHeader, err)
	}
	b.mu.Lock()
	b.header.h, b.header.users = h, 1
	b.mu.Unlock()
	return h, nil
}

func (b *Block) takeHeader() *indexheader.Header {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.header.h != nil {
		b.header.users++
	}
	return b.header.h
}

func (b *Block) releaseHeader(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.header.users--
	b.header.lastUsed = now
	if h := b.header.h; h != nil && b.header.users == 0 && b.header.distrusted && !b.header.fromIndex {
		b.header.h = nil
		if err := h.Close(); err != nil {
			b.env.Logger.Warn("closing an index header failed", "block", b.meta.ULID, "err", err)
		}
	}
}

// distrustHeader makes the next use of the header read the index, once.
func (b *Block) distrustHeader() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.header.distrusted = true
}

func (b *Block) headerTrusted() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.header.distrusted || b.header.fromIndex
}

// UnloadIdle frees the memory of an index header that was not used since the given
// time.
func (b *Block) UnloadIdle(since time.Time) error {
	b.mu.Lock()
	h := b.header.h
	if h == nil || b.header.users > 0 || b.header.lastUsed.After(since) {
		b.mu.Unlock()
		return nil
	}
	b.header.h = nil
	b.mu.Unlock()
	return h.Close()
}

// HeaderLoaded says whether the index header is in memory, and its size.
func (b *Block) HeaderLoaded() (bytes int64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.header.h == nil {
		return 0, false
	}
	return b.header.h.Size(), true
}

func (b *Block) unloadHeader() error {
	b.mu.Lock()
	h := b.header.h
	b.header.h = nil
	b.mu.Unlock()
	if h == nil {
		return nil
	}
	return h.Close()
}

func (b *Block) dropHeader() error {
	err := b.unloadHeader()
	if p := b.headerPath(); p != "" {
		if rerr := os.Remove(p); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return err
}

// loadHeader opens the local file, or makes the header from the bucket and writes the
// file.
func (b *Block) loadHeader(ctx context.Context) (*indexheader.Header, error) {
	o, err := b.file(ctx, indexPath, 0)
	if err != nil {
		return nil, err
	}
	file := b.headerPath()
	if file != "" && b.headerTrusted() {
		if h := b.localHeader(ctx, o, file); h != nil {
			return h, nil
		}
	}
	return b.makeHeader(ctx, o, file)
}

// localHeader opens the local file. When there is none, it first reads the bundle that
// has the header, if one has it.
func (b *Block) localHeader(ctx context.Context, o pagecache.Object, file string) *indexheader.Header {
	for try := range 2 {
		h, err := indexheader.OpenFile(file)
		if err == nil && h.IndexSize() == o.Size {
			return h
		}
		if err == nil {
			err = errors.Join(fmt.Errorf("header is of an index of %d bytes instead of %d", h.IndexSize(), o.Size), h.Close())
		}
		if !errors.Is(err, fs.ErrNotExist) {
			b.env.Logger.Warn("index header file unusable", "block", b.meta.ULID, "file", file, "err", err)
			return nil
		}
		if b.env.Bundles == nil || try > 0 {
			return nil
		}
		if err := b.env.Bundles.Fetch(ctx, b.meta.ULID, b.env.keepHeader); err != nil && ctx.Err() == nil {
			b.env.Logger.Warn("bundle of index headers unusable", "block", b.meta.ULID, "err", err)
		}
	}
	return nil
}

// keepHeader writes the local file of a header from a bundle, unless there is one.
func (e *Env) keepHeader(id ulid.ULID, h *indexheader.Header) {
	file := filepath.Join(e.HeaderDir, id.String())
	if _, err := os.Stat(file); err == nil || !e.HeaderWanted(id) {
		return
	}
	if err := h.WriteFile(vfs.OS(), file); err != nil {
		e.Logger.Warn("writing an index header failed", "block", id, "file", file, "err", err)
	}
}

// makeHeader makes the header from the index and writes the file.
func (b *Block) makeHeader(ctx context.Context, o pagecache.Object, file string) (*indexheader.Header, error) {
	select {
	case b.env.HeaderGate <- struct{}{}:
		defer func() { <-b.env.HeaderGate }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	// The first queries read what Fetch reads anyway: the ends of an index, and all
	// of a small one.
	h, err := indexheader.Fetch(ctx, b.env.Bucket, o.Name, o.Size, func(off int64, bytes []byte) {
		b.env.Pages.Prime(o, off, bytes)
	})
	if err == nil {
		b.mu.Lock()
		b.header.fromIndex = true
		b.mu.Unlock()
	}
	if err != nil || file == "" {
		return h, err
	}
	if err := h.WriteFile(vfs.OS(), file); err != nil {
		b.env.Logger.Warn("writing an index header failed", "block", b.meta.ULID, "file", file, "err", err)
		return h, nil
	}
	mapped, err := indexheader.OpenFile(file)
	if err != nil {
		b.env.Logger.Warn("reading back an index header failed", "block", b.meta.ULID, "file", file, "err", err)
		return h, nil
	}
	return mapped, nil
}
