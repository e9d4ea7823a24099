package httpserver

import (
	"net/http"
	"time"
)

// writePiece is the number of bytes that an HTTP/2 client must read within the stall
// timeout.
const writePiece = 32 << 10

// streamWriter ends an HTTP/2 stream whose client does not read. Each stream has its own
// window, so the connection makes progress while a stream stalls.
type streamWriter struct {
	http.ResponseWriter
	rc    *http.ResponseController
	stall time.Duration
}

// Write implements http.ResponseWriter.
func (s *streamWriter) Write(p []byte) (int, error) {
	// A deadline that passes between writes would end the stream.
	defer func() { _ = s.rc.SetWriteDeadline(time.Time{}) }()
	written := 0
	for {
		_ = s.rc.SetWriteDeadline(time.Now().Add(s.stall))
		n, err := s.ResponseWriter.Write(p[written:min(written+writePiece, len(p))])
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

// Flush implements http.Flusher.
func (s *streamWriter) Flush() {
	_ = s.rc.SetWriteDeadline(time.Now().Add(s.stall))
	_ = s.rc.Flush() // the next write has the error
	_ = s.rc.SetWriteDeadline(time.Time{})
}

// Unwrap is for http.ResponseController.
func (s *streamWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
