package main

import (
	"net/http"
	"time"
)

// recorder keeps the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status < 200 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// discard drops an answer.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }

// slowWriter sends a few kilobytes in a second until the fault ends.
type slowWriter struct {
	http.ResponseWriter
	ended chan struct{}
}

func (s *slowWriter) Write(b []byte) (int, error) {
	for n := 0; n < len(b); n += 256 {
		select {
		case <-s.ended:
			m, err := s.ResponseWriter.Write(b[n:])
			return n + m, err
		case <-time.After(50 * time.Millisecond):
		}
		part := b[n:min(n+256, len(b))]
		if m, err := s.ResponseWriter.Write(part); err != nil {
			return n + m, err
		}
		_ = http.NewResponseController(s.ResponseWriter).Flush()
	}
	return len(b), nil
}

// cutWriter closes the connection in the middle of the body.
type cutWriter struct{ http.ResponseWriter }

func (c *cutWriter) Write(b []byte) (int, error) {
	if len(b) < 2 {
		return c.ResponseWriter.Write(b)
	}
	_, _ = c.ResponseWriter.Write(b[:len(b)/2])
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// flipWriter changes one bit of each part of the body.
type flipWriter struct{ http.ResponseWriter }

func (f *flipWriter) Write(b []byte) (int, error) {
	if len(b) > 0 {
		b = append([]byte(nil), b...)
		b[len(b)*2/3] ^= 0x10
	}
	return f.ResponseWriter.Write(b)
}
