package compact_test

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// countingBucket counts the bytes that are read and written.
type countingBucket struct {
	bucket.Bucket
	read, written atomic.Int64
}

func (c *countingBucket) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := c.Bucket.Get(ctx, name)
	return &countingReader{ReadCloser: r, n: &c.read}, err
}

func (c *countingBucket) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	r, err := c.Bucket.GetRange(ctx, name, off, length)
	return &countingReader{ReadCloser: r, n: &c.read}, err
}

func (c *countingBucket) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	if size > 0 {
		c.written.Add(size)
	}
	return c.Bucket.Upload(ctx, name, r, size)
}

type countingReader struct {
	io.ReadCloser
	n *atomic.Int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.n.Add(int64(n))
	return n, err
}
