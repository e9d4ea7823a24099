package storerpc

import (
	"io"
	"sync"

	"github.com/golang/snappy"
	"google.golang.org/grpc/encoding"
)

// CompressionSnappy is the name of the compression for clients.
const CompressionSnappy = "snappy"

// RegisterSnappy makes the compression "snappy" (the framed format) known to
// gRPC, for servers to accept and clients to choose. gRPC keeps a list for the
// whole process without a lock, so the program calls this at its start, before
// any server or client exists. Calling it again does nothing.
func RegisterSnappy() {
	if encoding.GetCompressor(CompressionSnappy) == nil {
		encoding.RegisterCompressor(&snappyCompressor{})
	}
}

type snappyCompressor struct {
	writers, readers sync.Pool
}

func (*snappyCompressor) Name() string { return CompressionSnappy }

func (c *snappyCompressor) Compress(w io.Writer) (io.WriteCloser, error) {
	sw, ok := c.writers.Get().(*snappyWriter)
	if !ok {
		sw = &snappyWriter{Writer: snappy.NewBufferedWriter(w), pool: &c.writers}
	} else {
		sw.Reset(w)
	}
	return sw, nil
}

func (c *snappyCompressor) Decompress(r io.Reader) (io.Reader, error) {
	sr, ok := c.readers.Get().(*snappyReader)
	if !ok {
		sr = &snappyReader{Reader: snappy.NewReader(r), pool: &c.readers}
	} else {
		sr.Reset(r)
	}
	return sr, nil
}

// snappyWriter goes back to its pool when gRPC closes it.
type snappyWriter struct {
	*snappy.Writer
	pool *sync.Pool
}

func (w *snappyWriter) Close() error {
	err := w.Writer.Close()
	w.Reset(nil)
	w.pool.Put(w)
	return err
}

// snappyReader goes back to its pool when gRPC closes it.
type snappyReader struct {
	*snappy.Reader
	pool *sync.Pool
}

func (r *snappyReader) Close() error {
	r.Reset(nil)
	r.pool.Put(r)
	return nil
}
