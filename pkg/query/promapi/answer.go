package promapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	v1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/requestid"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// missingHeader names the sources that an answer lacks, separated by commas; it
// is not there when the answer is complete. completeHeader is on every answer:
// "true", "false", or "trailer" when a trailer of the same name will say it.
const (
	missingHeader  = "X-Hindsight-Missing"
	completeHeader = "X-Hindsight-Complete"
)

// streamed is the type of the answers whose first byte is sent before everything
// has been read.
const streamed = "application/x-streamed-protobuf"

// retryAfter is when a request that found the querier busy may come again, in
// seconds.
const retryAfter = "5"

// maxMissingHeader bounds the value of missingHeader, in bytes.
const maxMissingHeader = 1024

type unknownPath string

func errUnknownPath(path string) error { return unknownPath(path) }

func (p unknownPath) Error() string {
	return fmt.Sprintf("there is no API at %q", string(p))
}

func writeData(w http.ResponseWriter, data any, warnings []string) {
	write(w, http.StatusOK, v1.Response{Status: "success", Data: data, Warnings: warnings})
}

func writeError(w http.ResponseWriter, code int, typ string, err error) {
	writeFailure(w, code, idOf(err, typ, code), v1.Response{ErrorType: typ, Error: requestid.Text(w.Header(), code, err.Error())})
}

func write(w http.ResponseWriter, code int, resp any) {
	b, err := json.Marshal(resp)
	if err != nil {
		errorid.AnswerError(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// An error means that the client has gone.
	_, _ = w.Write(b)
}

// answering sets the headers that depend on how the answer turned out.
func (a *API) answering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.cfg.DisableCORS {
			h := w.Header()
			h.Set("Access-Control-Allow-Origin", "*")
			h.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
			h.Set("Access-Control-Allow-Headers", "Accept, Accept-Encoding, Authorization, Content-Type, Origin")
			h.Set("Access-Control-Expose-Headers", "Date, "+requestid.Header+", "+missingHeader+", "+completeHeader+", "+errorid.Header)
		}
		ctx, report := storeapi.NewReportContext(r.Context())
		out := &answer{ResponseWriter: w, report: report}
		next.ServeHTTP(out, r.WithContext(ctx))
		out.end()
	})
}

// answer is a ResponseWriter that knows the missing sources of the answer.
type answer struct {
	http.ResponseWriter
	report  *storeapi.Report
	started bool
	// named is the value of missingHeader that was sent.
	named string
	// trailing says that trailers are to say whether the answer is complete.
	trailing bool
}

// end makes sure that an answer without a body names its missing sources, and sends
// those found missing after the header as a trailer of the same name.
func (a *answer) end() {
	if !a.started {
		a.WriteHeader(http.StatusOK)
		return
	}
	all, _ := a.report.Missing()
	sources := namesOf(a.report)
	if len(sources) > 0 && missing(sources) != a.named {
		a.Header().Set(http.TrailerPrefix+missingHeader, missing(sources))
	}
	if a.trailing {
		a.Header().Set(http.TrailerPrefix+completeHeader, strconv.FormatBool(len(all) == 0))
	}
}

// WriteHeader implements http.ResponseWriter. An error after the first byte breaks
// the connection, so that the client does not take the answer for a whole one.
func (a *answer) WriteHeader(code int) {
	if a.started && code >= http.StatusBadRequest {
		panic(http.ErrAbortHandler)
	}
	if !a.started {
		a.started = true
		sources := namesOf(a.report)
		if a.report.Warned() || code >= http.StatusBadRequest {
			// An incomplete answer may be complete in a minute.
			a.Header().Set("Cache-Control", "no-store")
		}
		if code == http.StatusServiceUnavailable && a.Header().Get("Retry-After") == "" {
			a.Header().Set("Retry-After", retryAfter)
		}
		all, _ := a.report.Missing()
		switch complete := code < http.StatusBadRequest && len(all) == 0; {
		case complete && strings.HasPrefix(a.Header().Get("Content-Type"), streamed):
			a.trailing = true
			a.Header().Set(completeHeader, "trailer")
		default:
			a.Header().Set(completeHeader, strconv.FormatBool(complete))
		}
		if len(sources) > 0 {
			a.named = missing(sources)
			a.Header().Set(missingHeader, a.named)
		}
	}
	a.ResponseWriter.WriteHeader(code)
}

func (a *answer) Write(b []byte) (int, error) {
	if !a.started {
		a.WriteHeader(http.StatusOK)
	}
	return a.ResponseWriter.Write(b)
}

// Flush lets remote read stream.
func (a *answer) Flush() {
	if f, ok := a.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Unwrap returns the wrapped ResponseWriter to http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// missing joins names into a header value, without characters that a header
// must not have.
func missing(sources []string) string {
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, strings.Join(sources, ","))
	if len(s) > maxMissingHeader {
		s = s[:maxMissingHeader]
	}
	return s
}
