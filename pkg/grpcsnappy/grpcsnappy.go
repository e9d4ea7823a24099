// Package grpcsnappy is the compression "snappy" (the framed format) of gRPC
// calls, for all servers and clients of the program.
package grpcsnappy

import (
	"io"
	"sync"

	"github.com/golang/snappy"
	"google.golang.org/grpc/encoding"
)

// Name is the name of the compression, on the wire and in flags.
const Name = "snappy"

// Register makes the compression known to gRPC, for servers to accept and
// clients to choose. gRPC keeps a list for the whole process without a lock, so
// the program calls Register at its start, before any server or client exists.
// Calling it again does nothing.
func Register() {
	if encoding.GetCompressor(Name) == nil {
		encoding.RegisterCompressor(&compressor{})
	}
}

type compressor struct {
	writers, readers sync.Pool
}

func (*compressor) Name() string { return Name }

func (c *compressor) Compress(w io.Writer) (io.WriteCloser, error) {
	sw, ok := c.writers.Get().(*writer)
	if !ok {
		sw = &writer{Writer: snappy.NewBufferedWriter(w), pool: &c.writers}
	} else {
		sw.Reset(w)
	}
	return sw, nil
}

func (c *compressor) Decompress(r io.Reader) (io.Reader, error) {
	sr, ok := c.readers.Get().(*reader)
	if !ok {
		sr = &reader{Reader: snappy.NewReader(r), pool: &c.readers}
	} else {
		sr.Reset(r)
	}
	return sr, nil
}

// writer returns to its pool when gRPC closes it.
type writer struct {
	*snappy.Writer
	pool *sync.Pool
}

func (w *writer) Close() error {
	err := w.Writer.Close()
	w.Reset(nil)
	w.pool.Put(w)
	return err
}

// reader returns to its pool when gRPC closes it.
type reader struct {
	*snappy.Reader
	pool *sync.Pool
}

func (r *reader) Close() error {
	r.Reset(nil)
	r.pool.Put(r)
	return nil
}
