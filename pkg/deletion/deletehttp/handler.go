// Package deletehttp serves the HTTP API that deletes series: Prometheus's
// delete_series, and the list, the state and the cancellation of its requests.
package deletehttp

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/common/model"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/deletion"
	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// Handler writes deletion requests into a bucket.
//
//	POST /api/v1/admin/tsdb/delete_series   match[] (repeatable), start, end, tenant, details, delay, keep
//	GET  /api/v1/admin/tsdb/deletions
//	POST /api/v1/admin/tsdb/deletions/{id}/cancel
//
// Answers have the envelope of Prometheus's API. delete_series answers with the request,
// of which delay later the samples are removed; they are hidden as soon as the stores
// have listed the requests.
type Handler struct {
	// Bucket may be nil: then everything is refused.
	Bucket bucket.Bucket
	// Disabled names the flag that refuses everything; empty refuses nothing.
	Disabled string
}

// Paths of the API.
const (
	deletePath = "/api/v1/admin/tsdb/delete_series"
	listPath   = "/api/v1/admin/tsdb/deletions"
)

// Register adds the API.
func (h Handler) Register(mux *http.ServeMux) {
	for pattern, f := range map[string]func(http.ResponseWriter, *http.Request){
		"POST " + deletePath:                h.create,
		"PUT " + deletePath:                 h.create,
		"GET " + listPath:                   h.list,
		"POST " + listPath + "/{id}/cancel": h.cancel,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case h.Disabled != "":
				errorid.AnswerJSON(w, http.StatusBadRequest, "bad_data", errorid.AdminDisabled, "administration is disabled by "+h.Disabled)
			case h.Bucket == nil:
				errorid.AnswerJSON(w, http.StatusBadRequest, "bad_data", errorid.BucketUnconfigured, "there is no object storage to write the request to")
			default:
				f(w, r)
			}
		})
	}
}

// maxBody bounds the body of a request.
const maxBody = 1 << 20

// options reads the form of a new request.
func options(r *http.Request) (o deletion.Options, err error) {
	o = deletion.Options{
		Selectors: r.Form["match[]"], Tenant: r.FormValue("tenant"), TenantLabel: r.FormValue("tenant_label"),
		Details: r.FormValue("details"), Delay: deletion.DefaultDelay, Keep: deletion.DefaultKeep,
	}
	if o.MinTime, err = timeOf(r, "start", deletion.Earliest); err != nil {
		return o, err
	}
	if o.MaxTime, err = timeOf(r, "end", deletion.Latest); err != nil {
		return o, err
	}
	for name, d := range map[string]*time.Duration{"delay": &o.Delay, "keep": &o.Keep} {
		if text := r.FormValue(name); text != "" {
			v, err := model.ParseDuration(text)
			if err != nil {
				return o, fmt.Errorf("invalid parameter %q: %w", name, err)
			}
			*d = time.Duration(v)
		}
	}
	return o, nil
}

// timeOf reads a time as Prometheus does: Unix seconds or RFC 3339.
func timeOf(r *http.Request, name string, missing int64) (int64, error) {
	text := r.FormValue(name)
	if text == "" {
		return missing, nil
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil {
		if ms := s * 1000; !math.IsNaN(ms) && math.Abs(ms) < math.MaxInt64 {
			return int64(math.Round(ms)), nil
		}
		return 0, fmt.Errorf("invalid parameter %q: time out of range", name)
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0, fmt.Errorf("invalid parameter %q: neither Unix seconds nor RFC 3339", name)
	}
	return t.UnixMilli(), nil
}

func (h Handler) create(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		errorid.AnswerJSON(w, http.StatusBadRequest, "bad_data", errorid.Of(err), err.Error())
		return
	}
	o, err := options(r)
	if err != nil {
		errorid.AnswerJSON(w, http.StatusBadRequest, "bad_data", errorid.Of(err), err.Error())
		return
	}
	c, err := deletion.New(o, time.Now())
	if err != nil {
		errorid.AnswerJSON(w, http.StatusBadRequest, "bad_data", errorid.Of(err), err.Error())
		return
	}
	if err := deletion.Put(r.Context(), h.Bucket, c); err != nil {
		errorid.AnswerJSON(w, http.StatusInternalServerError, "internal", errorid.Of(err), err.Error())
		return
	}
	respond(w, http.StatusOK, answer{Status: "success", Data: row{Request: c.Request, State: deletion.Pending}})
}

// row is a request with its state.
type row struct {
	deletion.Request
	State deletion.State `json:"state"`
	// Nodes are the receivers and store gateways that have reported.
	Nodes []string `json:"nodes,omitempty"`
}

func (h Handler) list(w http.ResponseWriter, r *http.Request) {
	entries, err := deletion.NewPoller(h.Bucket, nil, nil).Poll(r.Context())
	if err != nil {
		errorid.AnswerJSON(w, http.StatusInternalServerError, "internal", errorid.Of(err), err.Error())
		return
	}
	rows := make([]row, len(entries))
	now := time.Now()
	for i, e := range entries {
		rows[i] = row{Request: e.Request, State: e.StateAt(now), Nodes: e.Nodes}
	}
	respond(w, http.StatusOK, answer{Status: "success", Data: rows})
}

func (h Handler) cancel(w http.ResponseWriter, r *http.Request) {
	id, err := ulid.ParseStrict(r.PathValue("id"))
	if err != nil {
		errorid.AnswerJSON(w, http.StatusBadRequest, "bad_data", "", "id is not that of a deletion request")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	switch err := deletion.Cancel(r.Context(), h.Bucket, id, r.FormValue("details"), time.Now()); {
	case errors.Is(err, bucket.ErrNotFound):
		errorid.AnswerJSON(w, http.StatusNotFound, "not_found", "", "the bucket has no deletion request "+id.String())
	case errors.Is(err, deletion.ErrDecided):
		errorid.AnswerJSON(w, http.StatusConflict, "bad_data", errorid.Of(err), err.Error())
	case err != nil:
		errorid.AnswerJSON(w, http.StatusInternalServerError, "internal", errorid.Of(err), err.Error())
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// answer is the envelope of Prometheus's API.
type answer struct {
	Status string `json:"status"`
	Data   any    `json:"data,omitempty"`
}

func respond(w http.ResponseWriter, code int, a answer) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// An error means that the client has disconnected.
	_ = json.NewEncoder(w).Encode(a)
}
