// Package bucket is object storage as the rest of the code sees it: read,
// list, write and delete of whole objects by name. Providers come from
// thanos-io/objstore through the package provider; decorators here add
// retries, verification of lengths, metrics and a prefix.
package bucket

import (
	"context"
	"io"
	"time"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// Errors of every implementation; test with errors.Is.
var (
	// ErrNotFound says that the named object does not exist.
	ErrNotFound = errorid.Sentinel(errorid.BucketObjectMissing, "object not found")
	// ErrAccessDenied says that the credentials do not allow the operation.
	ErrAccessDenied = errorid.Sentinel(errorid.BucketDenied, "access to the bucket denied")
)

// Object is one entry of a listing.
type Object struct {
	// Name is the full name within the bucket, with "/" as separator.
	Name string
	// Size in bytes, or -1 when the provider's listing has none.
	Size int64
	// LastModified on the clock of the bucket; zero when the listing has none.
	LastModified time.Time
}

// Reader reads a bucket. All methods may be called concurrently.
type Reader interface {
	// List calls f for every object whose name starts with the directory
	// prefix dir ("" for all), recursively, in ascending order of names. An
	// error from f stops the listing and is returned.
	List(ctx context.Context, dir string, f func(Object) error) error
	// Get returns the whole object. The caller closes the reader. A body that
	// ends before the object's length is an error of Read.
	Get(ctx context.Context, name string) (io.ReadCloser, error)
	// GetRange returns length bytes from offset off. Fewer bytes than asked
	// for are an error of Read, also at the end of the object.
	GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error)
	// Stat returns the size and time of one object.
	Stat(ctx context.Context, name string) (Object, error)
}

// Bucket reads and writes. All methods may be called concurrently.
type Bucket interface {
	Reader
	// Upload writes the object. Readers see all of it or the object that was there
	// before. size is the number of bytes of r, or -1 when unknown.
	Upload(ctx context.Context, name string, r io.Reader, size int64) error
	// Delete removes the object. A missing object is no error.
	Delete(ctx context.Context, name string) error
	// Name is provider and name of the bucket, for logs; it has no secrets.
	Name() string
	// Close releases connections. No call may follow.
	Close() error
}
