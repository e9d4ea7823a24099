package httpserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// freeForm is the part of a form that does not count towards MaxForms, so that small
// requests pass while large ones use all of it.
const freeForm = 64 << 10

// bounded applies the limits to bodies and answers.
func (l Limits) bounded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if r.Body != nil && r.Body != http.NoBody {
			r = l.boundBody(w, r, rc)
		}
		if r.ProtoMajor < 2 || l.StallTimeout <= 0 {
			h.ServeHTTP(w, r) // progressConn checks the progress
			return
		}
		h.ServeHTTP(&streamWriter{ResponseWriter: w, rc: rc, stall: l.StallTimeout}, r)
		// The server flushes its buffers after the handler.
		_ = rc.SetWriteDeadline(time.Now().Add(l.StallTimeout))
	})
}

// Forms reads and parses the form in a body before h runs, so that a slow sender
// takes no concurrency slot of h, and so that h cannot ignore an error of the form. h
// can read the body again. A compressed form is refused: read as it is, it has none of
// the parameters of its sender.
func (l Limits) Forms(h http.Handler) http.Handler {
	var forms atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isForm(r) {
			if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
				refuse(w, &statusError{code: http.StatusUnsupportedMediaType, text: fmt.Sprintf("a form may not be compressed: its content encoding is %.50q", encoding)})
				return
			}
			release, err := l.readForm(r, &forms)
			defer release()
			if err != nil {
				refuse(w, err)
				return
			}
		}
		h.ServeHTTP(w, r)
	})
}

// boundBody returns a copy of the request with a bounded body. The request of the
// server keeps its body: its type tells the server how much was not read, and the
// server answers at once where that is too much to skip.
func (l Limits) boundBody(w http.ResponseWriter, r *http.Request, rc *http.ResponseController) *http.Request {
	r = r.WithContext(r.Context())
	if l.BodyGrace > 0 {
		b := &timedBody{ReadCloser: r.Body, rc: rc, limits: l, started: time.Now()}
		// It bounds also the bytes that the server skips when the handler reads
		// none.
		_ = rc.SetReadDeadline(b.deadline())
		r.Body = b
	}
	if l.MaxBody > 0 {
		r.Body = http.MaxBytesReader(w, r.Body, l.MaxBody)
	}
	return r
}

// timedBody is a body that must arrive with a minimum of bytes per second.
type timedBody struct {
	io.ReadCloser
	rc      *http.ResponseController
	limits  Limits
	started time.Time
	arrived int64
	done    bool
}

func (b *timedBody) deadline() time.Time {
	return b.started.Add(b.limits.BodyGrace + time.Duration(b.arrived/max(b.limits.BodyRate, 1))*time.Second)
}

// Read implements io.Reader.
func (b *timedBody) Read(p []byte) (int, error) {
	if b.done {
		return b.ReadCloser.Read(p)
	}
	_ = b.rc.SetReadDeadline(b.deadline())
	n, err := b.ReadCloser.Read(p)
	b.arrived += int64(n)
	switch {
	case errors.Is(err, io.EOF):
		// The deadline must not end the request during its answer.
		b.done = true
		_ = b.rc.SetReadDeadline(time.Time{})
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = &statusError{code: http.StatusRequestTimeout, text: fmt.Sprintf(
			"the request body arrived too slowly: %d bytes in %s", b.arrived, time.Since(b.started).Round(time.Second)), err: err}
	}
	return n, err
}

// isForm reports whether handlers would find parameters in the body.
func isForm(r *http.Request) bool {
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
	default:
		// FormValue parses multipart bodies of any method.
		return multipartForm(r)
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && media == "application/x-www-form-urlencoded" || multipartForm(r)
}

func multipartForm(r *http.Request) bool {
	return strings.HasPrefix(strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Type"))), "multipart/")
}

// readForm reads the body into memory and parses it. The body can be read again.
// The caller calls release when the request has been answered.
func (l Limits) readForm(r *http.Request, forms *atomic.Int64) (release func(), err error) {
	held := int64(0)
	release = func() { forms.Add(-held) }
	var buf bytes.Buffer
	piece := make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(piece)
		if int64(buf.Len()+n) > l.MaxForm && l.MaxForm > 0 {
			return release, &http.MaxBytesError{Limit: l.MaxForm}
		}
		if more := int64(buf.Len()+n) - max(int64(buf.Len()), freeForm); more > 0 && l.MaxForms > 0 {
			held += more
			if forms.Add(more) > l.MaxForms {
				return release, &statusError{code: http.StatusServiceUnavailable, text: "too many large forms are being worked on; try again"}
			}
		}
		buf.Write(piece[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return release, err
		}
	}
	body := buf.Bytes()
	r.Body = io.NopCloser(bytes.NewReader(body))
	if multipartForm(r) {
		// The limit for memory is above the size of the body, so that no part of it is
		// written to a file.
		err = r.ParseMultipartForm(l.MaxForm + 1<<20)
	} else {
		err = r.ParseForm()
	}
	if err != nil {
		return release, &statusError{code: http.StatusBadRequest, text: "parse the form in the body: " + err.Error(), err: err}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return release, nil
}

// statusError is an error with the HTTP status of its answer.
type statusError struct {
	code int
	text string
	err  error
}

func (e *statusError) Error() string { return e.text }

func (e *statusError) Unwrap() error { return e.err }

// refuse answers a request that did not reach a handler.
func refuse(w http.ResponseWriter, err error) {
	code, kind := http.StatusBadRequest, "bad_data"
	var own *statusError
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &own):
		code = own.code
	case errors.As(err, &large):
		code = http.StatusRequestEntityTooLarge
		err = fmt.Errorf("the request body has more than %d bytes", large.Limit)
	}
	if code == http.StatusServiceUnavailable {
		kind = "unavailable"
		w.Header().Set("Retry-After", "5")
	}
	// Close without waiting for the rest of the body.
	w.Header().Set("Connection", "close")
	errorid.AnswerJSON(w, code, kind, errorid.Of(err), err.Error())
}
