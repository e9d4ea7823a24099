package promapi

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// RunningQuery is one request that runs.
type RunningQuery struct {
	ID     string `json:"id"`
	Tenant string `json:"tenant"`
	// Query is the expression, or the selectors of a request that has none; long ones
	// are cut.
	Query string `json:"query"`
	// Kind is the last part of the path, and "grpc_query" for a query over gRPC.
	Kind       string    `json:"kind"`
	Start      time.Time `json:"start"`
	AgeSeconds float64   `json:"ageSeconds"`
	// Stage is queued, reading, evaluating or encoding.
	Stage     string `json:"stage"`
	Remote    string `json:"remote"`
	UserAgent string `json:"userAgent"`
	// These were read from the stores so far.
	Series  int64 `json:"series"`
	Samples int64 `json:"samples"`
	Chunks  int64 `json:"chunks"`
	Bytes   int64 `json:"bytes"`
	// MemoryBytes is what the request holds of the memory budget.
	MemoryBytes int64 `json:"memoryBytes"`
}

// Running are the requests that run or have run, as the tenant of the context may see
// them. Each function may be nil.
type Running struct {
	// List returns them, oldest first.
	List func(context.Context) []RunningQuery
	// End ends the one with the given id, and reports whether there is one.
	End func(ctx context.Context, id string) bool
	// Top returns at most limit of the most expensive ones that have ended.
	Top func(ctx context.Context, order TopOrder, limit int) TopQueries
	// Memory returns the state of the memory budget.
	Memory func(context.Context) MemoryStatus
}

// runningQueries lists the requests that run.
func (a *API) runningQueries(w http.ResponseWriter, r *http.Request) {
	out := []RunningQuery{}
	if a.cfg.Running.List != nil {
		out = a.cfg.Running.List(r.Context())
	}
	w.Header().Set("Cache-Control", "no-store")
	writeData(w, map[string][]RunningQuery{"queries": out}, nil)
}

// endQuery ends a request that runs.
func (a *API) endQuery(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if a.cfg.Running.End == nil || !a.cfg.Running.End(r.Context(), id) {
		writeError(w, http.StatusNotFound, "not_found", fmt.Errorf("no query with the id %q runs", id))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
