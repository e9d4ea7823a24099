package bucketblock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/hindsight-io/hindsight/pkg/block/indexheader"
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
	o, err := b.object(ctx, indexPath, 0)
	if err != nil {
		return nil, err
	}
	file := b.headerPath()
	if file != "" {
		h, err := indexheader.OpenFile(file)
		if err == nil && h.IndexSize() == o.Size {
			return h, nil
		}
		if err == nil {
			err = errors.Join(fmt.Errorf("header is of an index of %d bytes instead of %d", h.IndexSize(), o.Size), h.Close())
		}
		if !errors.Is(err, fs.ErrNotExist) {
			b.env.Logger.Warn("index header file unusable", "block", b.meta.ULID, "file", file, "err", err)
		}
	}
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
