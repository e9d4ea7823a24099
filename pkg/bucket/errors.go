package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// More errors of every implementation.
var (
	// ErrNoBucket says that the bucket itself does not exist.
	ErrNoBucket = errorid.Sentinel(errorid.BucketMissing, "bucket does not exist")
	// ErrGone says that the directory that is the bucket had objects and is not there now,
	// mostly because its volume is not mounted. The bucket may come back.
	ErrGone = errorid.Sentinel(errorid.BucketGone, "bucket directory is gone")
	// ErrTooLarge says that an object is larger than its reader allows.
	ErrTooLarge = errorid.Sentinel(errorid.BucketObject, "object is larger than allowed")
	// ErrRange says that a range begins at or after the end of the object.
	ErrRange = errorid.Sentinel(errorid.BucketObject, "range begins after the end of the object")
	// ErrInvalidName says that a name cannot be the name of an object.
	ErrInvalidName = errorid.Sentinel(errorid.BucketObject, "invalid object name")
	// ErrFull says that the bucket accepts no more data: its disk is full, or its quota
	// is exhausted. Deletions still work.
	ErrFull = errorid.Sentinel(errorid.BucketFull, "bucket is full")
	// ErrPermanent marks any other error for which a retry does not help, for example a
	// request that the provider calls malformed.
	ErrPermanent = errorid.Sentinel(errorid.BucketPermanent, "permanent object storage error")
	// ErrLength says that a body had fewer or more bytes than it should have.
	ErrLength = errorid.Sentinel(errorid.BucketObject, "wrong length of object body")
)

// IsTemporary says whether a retry may help.
func IsTemporary(err error) bool {
	if err == nil {
		return false
	}
	for _, p := range []error{
		ErrNotFound, ErrAccessDenied, ErrNoBucket, ErrTooLarge, ErrRange, ErrInvalidName, ErrFull, ErrPermanent,
		ErrChanged, ErrNoConditions, context.Canceled,
	} {
		if errors.Is(err, p) {
			return false
		}
	}
	return true
}

// CheckName returns ErrInvalidName unless name is a sequence of non-empty
// elements separated by single slashes, none of them "." or "..". One trailing
// slash is allowed, as in the marker objects that some tools create for
// directories.
func CheckName(name string) error {
	if len(name) > 1024 || strings.ContainsAny(name, "\x00\\") {
		return fmt.Errorf("%w: %.80q", ErrInvalidName, name)
	}
	for elem := range strings.SplitSeq(strings.TrimSuffix(name, "/"), "/") {
		if elem == "" || elem == "." || elem == ".." {
			return fmt.Errorf("%w: %.80q", ErrInvalidName, name)
		}
	}
	return nil
}

// readTries bounds how often ReadAll reads an object.
const readTries = 3

// ReadAll returns the whole object, or ErrTooLarge if it has more than limit
// bytes; it reads no more than that. A body that breaks off is read again
// from its beginning, since the object may be another one by then.
func ReadAll(ctx context.Context, r Reader, name string, limit int64) ([]byte, error) {
	for try := 1; ; try++ {
		rc, err := r.Get(ctx, name)
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(io.LimitReader(rc, limit+1))
		err = errors.Join(err, rc.Close())
		switch {
		case err == nil && int64(len(b)) > limit:
			return nil, fmt.Errorf("read %s: %w: more than %d bytes", name, ErrTooLarge, limit)
		case err == nil:
			return b, nil
		case try == readTries, !IsTemporary(err), ctx.Err() != nil:
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
}
