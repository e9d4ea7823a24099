package provider

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

const (
	// lockTimeout bounds how long a conditional write waits for those of other
	// processes, one of which may be stopped.
	lockTimeout = 30 * time.Second
	// lockPause is the time between two attempts to get the lock.
	lockPause = 5 * time.Millisecond
)

// fileVersion is the hash of the content: times of files are too coarse, and numbers of
// files are used again.
func fileVersion(data []byte) bucket.Version {
	sum := sha256.Sum256(data)
	return bucket.Version(hex.EncodeToString(sum[:]))
}

// GetVersion implements bucket.Conditional.
func (b *filesystem) GetVersion(ctx context.Context, name string, limit int64) ([]byte, bucket.Version, error) {
	rc, err := b.Get(ctx, name)
	if err != nil {
		return nil, bucket.NoVersion, err
	}
	data, err := readLimited(rc, name, limit)
	if err != nil {
		return nil, bucket.NoVersion, err
	}
	return data, fileVersion(data), nil
}

// PutIf implements bucket.Conditional. It compares and renames while it holds a lock of the
// bucket's directory, which the system releases when the process dies.
func (b *filesystem) PutIf(ctx context.Context, name string, data []byte, old bucket.Version) (_ bucket.Version, err error) {
	if err := errors.Join(ctx.Err(), bucket.CheckName(name)); err != nil {
		return bucket.NoVersion, err
	}
	if err := b.present.lost(b.root); err != nil {
		return bucket.NoVersion, fmt.Errorf("write %s: %w", name, err)
	}
	if err := b.fs.MkdirAll(b.root, 0o777); err != nil {
		return bucket.NoVersion, fmt.Errorf("write %s: %w", name, mapFileErr(err))
	}
	unlock, err := lockDir(ctx, b.root)
	if err != nil {
		return bucket.NoVersion, fmt.Errorf("write %s: %w", name, err)
	}
	defer unlock()
	at := bucket.NoVersion
	switch rc, gerr := b.Get(ctx, name); {
	case gerr == nil:
		// An object of another size than any that is written conditionally differs.
		now, rerr := readLimited(rc, name, maxConditional)
		if rerr != nil {
			return bucket.NoVersion, rerr
		}
		at = fileVersion(now)
	case !errors.Is(gerr, bucket.ErrNotFound):
		return bucket.NoVersion, gerr
	}
	if at != old {
		return bucket.NoVersion, fmt.Errorf("write %s: %w", name, bucket.ErrChanged)
	}
	if err := b.Upload(ctx, name, bytes.NewReader(data), int64(len(data))); err != nil {
		return bucket.NoVersion, err
	}
	return fileVersion(data), nil
}

// maxConditional bounds the size of an object that a conditional write replaces.
const maxConditional = 1 << 20

// lockDir locks a directory. Some network filesystems cannot lock one; the error is
// bucket.ErrNoConditions then.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, mapFileErr(err)
	}
	for start := time.Now(); ; {
		err := flock(f)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil
		case errors.Is(err, syscall.EBADF), errors.Is(err, syscall.ENOLCK), errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS), errors.Is(err, syscall.EINVAL):
			return nil, errors.Join(fmt.Errorf("%w: lock directory %s: %w", bucket.ErrNoConditions, dir, err), f.Close())
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return nil, errors.Join(fmt.Errorf("lock directory %s: %w", dir, err), f.Close())
		case time.Since(start) > lockTimeout:
			return nil, errors.Join(fmt.Errorf("directory %s is locked by another process for more than %s", dir, lockTimeout), f.Close())
		}
		t := time.NewTimer(lockPause)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-t.C:
		}
	}
}
