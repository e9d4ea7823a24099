package promapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/prometheus/prometheus/promql"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// failure is an error in the form of the Prometheus API, with the id of its page. The text
// has the id at its end as well, because most clients show the text only.
type failure struct {
	v1.Response
	ErrorID errorid.ID `json:"errorId"`
}

func writeFailure(w http.ResponseWriter, code int, id errorid.ID, resp v1.Response) {
	resp.Status, resp.Error = "error", errorid.Text(resp.Error, id)
	w.Header().Set(errorid.Header, id.String())
	write(w, code, failure{resp, id})
}

// idOf returns the id of an error with this type and status. typ is empty where the answer
// has none.
func idOf(err error, typ string, code int) errorid.ID {
	if id := idOfCause(err); id != "" {
		return id
	}
	return idOfType(typ, code)
}

// idOfCause returns the id of an error of the engine, "" for those that their type says all
// of. An error of the storage does not unwrap to its cause.
func idOfCause(err error) errorid.ID {
	var storage promql.ErrStorage
	if errors.As(err, &storage) && storage.Err != nil {
		err = storage.Err
	}
	id := errorid.Of(err)
	if id == errorid.Timeout && errors.Is(err, context.DeadlineExceeded) || id == errorid.Canceled {
		return ""
	}
	return id
}

// idOfType returns the id of a type of the Prometheus API.
func idOfType(typ string, code int) errorid.ID {
	switch typ {
	case "bad_data":
		return errorid.QueryInvalid
	case "execution", "cost_limit":
		return errorid.QueryFailed
	case "timeout":
		return errorid.QueryTimeout
	case "canceled":
		return errorid.QueryCanceled
	}
	return errorid.OfStatus(code)
}

// maxFailures bounds the errors whose answer was not written yet.
const maxFailures = 1000

// failures has the id of each error that the API of Prometheus is about to answer with,
// by its text: that API passes on nothing else. The zero value is ready to use, also
// concurrently.
type failures struct {
	mtx sync.Mutex
	ids map[string]errorid.ID
}

// note keeps the id of an error until its answer is written.
func (f *failures) note(err error) {
	id := idOfCause(err)
	if id == "" {
		return
	}
	text := err.Error()
	f.mtx.Lock()
	defer f.mtx.Unlock()
	if f.ids == nil || len(f.ids) >= maxFailures {
		f.ids = map[string]errorid.ID{}
	}
	f.ids[text] = id
}

// take returns the id of the error with the text, "" when there is none.
func (f *failures) take(text string) errorid.ID {
	f.mtx.Lock()
	defer f.mtx.Unlock()
	id := f.ids[text]
	delete(f.ids, text)
	return id
}

// writeFailed writes an error of the API of Prometheus with its id.
func (w *printing) writeFailed(b []byte) (int, error) {
	code := w.failed
	w.failed = 0
	var resp v1.Response
	ofPrometheus := json.Unmarshal(b, &resp) == nil && resp.Status == "error"
	if !ofPrometheus {
		errorid.Answer(w.ResponseWriter, code, "", strings.TrimSpace(string(b)))
		return len(b), nil
	}
	id := w.printer.failures.take(resp.Error)
	if id == "" {
		id = idOfType(resp.ErrorType, code)
	}
	writeFailure(w.ResponseWriter, code, id, resp)
	return len(b), nil
}
