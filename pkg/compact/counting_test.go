package compact_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// countingBucket counts the bytes read and written. It keeps uploads of index and
// chunks in memory that was there before, so that a benchmark does not measure the storage.
type countingBucket struct {
	bucket.Bucket
	read, written atomic.Int64
	// stored has the index and the segments of new blocks in memory, in room, which the
	// caller provides so that its page faults are not measured.
	stored sync.Map
	mu     sync.Mutex
	room   []byte
}

// Stat implements bucket.Reader.
func (c *countingBucket) Stat(ctx context.Context, name string) (bucket.Object, error) {
	if b, ok := c.stored.Load(name); ok {
		return bucket.Object{Name: name, Size: int64(len(b.([]byte)))}, nil
	}
	return c.Bucket.Stat(ctx, name)
}

func (c *countingBucket) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := c.Bucket.Get(ctx, name)
	return &countingReader{ReadCloser: r, n: &c.read}, err
}

func (c *countingBucket) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	if b, ok := c.stored.Load(name); ok {
		r := io.NewSectionReader(bytes.NewReader(b.([]byte)), off, length)
		return &countingReader{ReadCloser: io.NopCloser(r), n: &c.read}, nil
	}
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
	c.mu.Lock()
	if int64(len(c.room)) < size {
		c.room = make([]byte, size)
	}
	b := c.room[:size:size]
	c.room = c.room[size:]
	c.mu.Unlock()
	_, err := io.ReadFull(r, b)
	c.stored.Store(name, b)
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
