package promapi

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"sync"

	jsoniter "github.com/json-iterator/go"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// printer prints the large answers of the Prometheus API in pieces, and ends with
// the request. A codec of that API knows no request, and has to return the whole
// answer: this one returns a ticket in its place, and the ResponseWriter that the
// API writes the ticket to prints the answer. It may be used concurrently.
type printer struct {
	v1.JSONCodec
	errorCode func(error) int
	// failures has the ids of errors that the API reports.
	failures failures

	mtx     sync.Mutex
	last    uint64
	waiting map[string]*v1.Response
}

func newPrinter(errorCode func(error) int) *printer {
	return &printer{errorCode: errorCode, waiting: map[string]*v1.Response{}}
}

// codeOf returns the status of an error that the API is about to answer with, 0 where it
// has none of its own, and keeps its id.
func (p *printer) codeOf(err error) int {
	p.failures.note(err)
	if p.errorCode == nil {
		return 0
	}
	return p.errorCode(err)
}

// ticketHead begins a ticket; no JSON begins like this.
const ticketHead = "\x00ticket\x00"

// Encode implements v1.Codec.
func (p *printer) Encode(resp *v1.Response) ([]byte, error) {
	switch resp.Data.(type) {
	case *v1.QueryData, []labels.Labels, []string, []exemplar.QueryResult:
	default:
		return p.JSONCodec.Encode(resp)
	}
	p.mtx.Lock()
	defer p.mtx.Unlock()
	p.last++
	ticket := binary.BigEndian.AppendUint64([]byte(ticketHead), p.last)
	p.waiting[string(ticket)] = resp
	return ticket, nil
}

// take returns the answer that b is the ticket of, or nil.
func (p *printer) take(b []byte) *v1.Response {
	if len(b) != len(ticketHead)+8 || b[0] != ticketHead[0] {
		return nil
	}
	p.mtx.Lock()
	defer p.mtx.Unlock()
	resp := p.waiting[string(b)]
	delete(p.waiting, string(b))
	return resp
}

// wrap prints the answers of next, which has the printer as its codec.
func (p *printer) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := &printing{ResponseWriter: w, ctx: r.Context(), printer: p}
		// Errors have to arrive here as they are.
		plain := *r
		plain.Header = r.Header.Clone()
		plain.Header.Del("Accept-Encoding")
		next.ServeHTTP(out, &plain)
		switch {
		case out.delayed:
			w.WriteHeader(http.StatusOK)
		case out.failed != 0: // without a body
			w.WriteHeader(out.failed)
		}
	})
}

// printing is a ResponseWriter that prints answers for tickets. It delays the status
// of an answer until there is a piece to send, so that an answer whose time ends
// before is an error.
type printing struct {
	http.ResponseWriter
	ctx     context.Context
	printer *printer
	delayed bool
	// failed is the status of an error whose text was not written yet.
	failed int
}

// WriteHeader implements http.ResponseWriter.
func (w *printing) WriteHeader(code int) {
	switch w.delayed = code == http.StatusOK; {
	case w.delayed:
	case code >= http.StatusBadRequest:
		w.failed = code
	default:
		w.ResponseWriter.WriteHeader(code)
	}
}

// Write implements http.ResponseWriter. It returns when the whole answer has been
// printed, so that the handler may then give back what the answer is made of.
func (w *printing) Write(b []byte) (int, error) {
	if w.failed != 0 {
		return w.writeFailed(b)
	}
	resp := w.printer.take(b)
	if resp == nil {
		return w.send(b)
	}
	out := newPages(w.ctx, w)
	defer out.close()
	out.response(resp)
	out.end()
	if out.err == nil {
		return len(b), nil
	}
	if out.sent {
		// Only a broken connection tells the client that the answer is not whole.
		panic(http.ErrAbortHandler)
	}
	w.delayed = false
	w.fail(out.err)
	return len(b), nil
}

// send sends the delayed status and a piece.
func (w *printing) send(b []byte) (int, error) {
	if w.delayed {
		w.delayed = false
		w.ResponseWriter.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// fail answers that there is no answer, as Prometheus does for a query that ends.
func (w *printing) fail(err error) {
	const doing = "printing of the result"
	switch {
	case w.ctx.Err() == nil:
		// A value that JSON cannot have.
		errorid.AnswerError(w.ResponseWriter, http.StatusInternalServerError, err)
	case errors.Is(err, context.DeadlineExceeded):
		writeError(w.ResponseWriter, http.StatusServiceUnavailable, "timeout", promql.ErrQueryTimeout(doing))
	case errors.Is(err, context.Canceled):
		writeError(w.ResponseWriter, http.StatusServiceUnavailable, "canceled", promql.ErrQueryCanceled(doing))
	default:
		// The querier itself has ended the request.
		code := http.StatusUnprocessableEntity
		if w.printer.errorCode != nil {
			code = cmp.Or(w.printer.errorCode(err), code)
		}
		writeError(w.ResponseWriter, code, "execution", err)
	}
}

// Flush implements http.Flusher.
func (w *printing) Flush() {
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// jsonForm is the form in which Prometheus writes JSON.
func jsonForm() jsoniter.API { return jsoniter.ConfigCompatibleWithStandardLibrary }
