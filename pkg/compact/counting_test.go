package compact_test

import (
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// countingBucket counts the bytes read and written. It does not store uploads of index
// and chunks, so that a benchmark does not measure the storage.
type countingBucket struct {
	bucket.Bucket
	read, written atomic.Int64
	sizes         sync.Map // of uploads that are not stored, by name
}

// Stat implements bucket.Reader.
func (c *countingBucket) Stat(ctx context.Context, name string) (bucket.Object, error) {
	if size, ok := c.sizes.Load(name); ok {
		return bucket.Object{Name: name, Size: size.(int64)}, nil
	}
	return c.Bucket.Stat(ctx, name)
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
	if !strings.HasSuffix(name, "index") && !strings.Contains(name, "/chunks/") {
		return c.Bucket.Upload(ctx, name, r, size)
	}
	n, err := io.Copy(io.Discard, r)
	c.sizes.Store(name, n)
	return err
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
