package doctorhttp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/doctor"
	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// Bounds of one answer.
const (
	maxTime     = 30 * time.Second
	maxFindings = 1000
	// keep is how long an answer is given again: claims change by the minute.
	keep = time.Minute
)

// Handler answers a GET with the findings about the sources of a bucket. It reads the
// claims and logs of Prometheus servers from the bucket, for one request at a time and at
// most once a minute. It may be used concurrently.
type Handler struct {
	bkt  bucket.Reader
	view func() *blocklist.View
	opts doctor.Options
	// turn holds the last answer.
	turn chan answer
}

// answer is the data of a response. Findings are the first Total ones, at most maxFindings.
type answer struct {
	Findings []doctor.Finding `json:"findings"`
	Total    int              `json:"total"`
	taken    time.Time
	of       *blocklist.View
}

// New returns a handler for the blocks of a view; view returns nil before the first
// listing of the bucket. replicaLabels are the external labels in which replicas differ;
// with none, the defaults of doctor.DefaultOptions hold.
func New(bkt bucket.Reader, view func() *blocklist.View, replicaLabels []string) *Handler {
	h := &Handler{bkt: bkt, view: view, opts: doctor.DefaultOptions(), turn: make(chan answer, 1)}
	if len(replicaLabels) > 0 {
		h.opts.ReplicaLabels = replicaLabels
	}
	h.turn <- answer{}
	return h
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v := h.view()
	if v == nil {
		errorid.AnswerJSON(w, http.StatusServiceUnavailable, "unavailable", errorid.NotReady, "the bucket has not been listed yet")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), maxTime)
	defer cancel()
	a, err := h.findings(ctx, v)
	if err != nil {
		errorid.AnswerJSON(w, http.StatusServiceUnavailable, "unavailable", errorid.Of(err), err.Error())
		return
	}
	respond(w, http.StatusOK, map[string]any{"status": "success", "data": a})
}

// findings reads the bucket, unless the last answer is new enough.
func (h *Handler) findings(ctx context.Context, v *blocklist.View) (answer, error) {
	var last answer
	select {
	case last = <-h.turn:
		defer func() { h.turn <- last }()
	case <-ctx.Done():
		return answer{}, fmt.Errorf("wait for the findings of another request: %w", ctx.Err())
	}
	if last.of == v && time.Since(last.taken) < keep {
		return last, nil
	}
	// A claim that cannot be read is not a finding about its source.
	in, _, err := Look(ctx, h.bkt, v)
	if err != nil {
		return answer{}, fmt.Errorf("read what the bucket says of its sources: %w", err)
	}
	found := append([]doctor.Finding{}, doctor.Diagnose(in, h.opts)...)
	last = answer{Findings: found[:min(len(found), maxFindings)], Total: len(found), taken: in.Now, of: v}
	return last, nil
}

func respond(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// An error means that the client has gone.
	_ = json.NewEncoder(w).Encode(body)
}
