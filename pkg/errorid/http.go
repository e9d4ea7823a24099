package errorid

import (
	"encoding/json"
	"net/http"
	"sync"
)

// Header is the header of HTTP answers that has the id of their error.
const Header = "X-Hindsight-Error"

// OfStatus returns the general id of an HTTP status, the empty one below 400.
func OfStatus(code int) ID {
	switch code {
	case http.StatusUnauthorized:
		return Unauthorized
	case http.StatusForbidden:
		return Forbidden
	case http.StatusNotFound:
		return HTTPNotFound
	case http.StatusMethodNotAllowed:
		return HTTPMethod
	case http.StatusRequestTimeout:
		return SlowBody
	case http.StatusRequestEntityTooLarge:
		return BodyTooLarge
	case http.StatusUnsupportedMediaType:
		return MediaType
	case http.StatusTooManyRequests:
		return TooManyRequests
	case http.StatusServiceUnavailable:
		return NotReady
	case http.StatusGatewayTimeout:
		return Timeout
	}
	switch {
	case code < http.StatusBadRequest:
		return ""
	case code < http.StatusInternalServerError:
		return BadRequest
	}
	return Internal
}

// Answer answers a request with an error as one line of text, like http.Error. The id is
// that of the status where it is empty.
func Answer(w http.ResponseWriter, code int, id ID, text string) {
	id = set(w.Header(), code, id)
	http.Error(w, Text(text, id), code)
}

// AnswerError is Answer with the text and the id of err.
func AnswerError(w http.ResponseWriter, code int, err error) {
	Answer(w, code, Of(err), err.Error())
}

// AnswerJSON answers a request with an error in the form of the Prometheus API, with the
// id in the field "errorId". kind is the value of "errorType". The id is that of the status
// where it is empty.
func AnswerJSON(w http.ResponseWriter, code int, kind string, id ID, text string) {
	id = set(w.Header(), code, id)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// An error means that the client has gone.
	_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": kind, "error": text, "errorId": string(id)})
}

// Handler sets the header of the errors that next answers without an id, such as those of
// a mux for unknown paths, to the id of their status.
func Handler(next http.Handler) http.Handler {
	// Writes are many and mostly succeed: they share the answers.
	answers := sync.Pool{New: func() any { return new(answer) }}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := answers.Get().(*answer)
		a.ResponseWriter = w
		next.ServeHTTP(a, r)
		a.ResponseWriter = nil // not after a panic: the answer is dropped then
		answers.Put(a)
	})
}

// answer is a ResponseWriter whose errors have an id.
type answer struct{ http.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(code int) {
	complete(a.Header(), code)
	a.ResponseWriter.WriteHeader(code)
}

// Flush implements http.Flusher.
func (a *answer) Flush() {
	_ = http.NewResponseController(a.ResponseWriter).Flush() // the next write has the error
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// complete sets the header of an answer with an error to the id of its status, unless it
// has an id already.
func complete(h http.Header, code int) {
	if code >= http.StatusBadRequest && h.Get(Header) == "" {
		set(h, code, "")
	}
}

func set(h http.Header, code int, id ID) ID {
	if id == "" {
		id = OfStatus(code)
	}
	h.Set(Header, string(id))
	return id
}
