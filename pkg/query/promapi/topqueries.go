package promapi

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// TopQuery has the sums of all requests of a tenant with the same kind and expression.
type TopQuery struct {
	// Tenant, Query and Kind are those of RunningQuery.
	Tenant string `json:"tenant"`
	Query  string `json:"query"`
	Kind   string `json:"kind"`
	Count  int64  `json:"count"`
	// Interrupted counts requests that were cancelled, ended or out of time.
	Interrupted  int64   `json:"interrupted"`
	TotalSeconds float64 `json:"totalSeconds"`
	MaxSeconds   float64 `json:"maxSeconds"`
	// Cost counts the samples read and the points computed.
	Cost    int64     `json:"cost"`
	Series  int64     `json:"series"`
	Samples int64     `json:"samples"`
	Bytes   int64     `json:"bytes"`
	Last    time.Time `json:"last"`
}

// TopQueries are the most expensive requests.
type TopQueries struct {
	Since time.Time `json:"since"`
	// Complete says that no query has been forgotten since then.
	Complete bool       `json:"complete"`
	Queries  []TopQuery `json:"queries"`
}

// TopOrder names the sum by which queries are ordered.
type TopOrder string

// The orders of queries.
const (
	TopByTime  TopOrder = "time"
	TopByCost  TopOrder = "cost"
	TopByCount TopOrder = "count"
)

// The limits of a list of the most expensive queries.
const (
	defaultTopQueries = 100
	maxTopQueries     = 1000
)

// topQueries lists the most expensive requests that have ended.
func (a *API) topQueries(w http.ResponseWriter, r *http.Request) {
	form := r.URL.Query()
	limit, order := defaultTopQueries, TopByTime
	if text := form.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxTopQueries {
			badData(w, fmt.Errorf("invalid parameter \"limit\": %q is not a number from 1 to %d", text, maxTopQueries))
			return
		}
		limit = n
	}
	switch by := TopOrder(form.Get("by")); by {
	case "":
	case TopByTime, TopByCost, TopByCount:
		order = by
	default:
		badData(w, fmt.Errorf("invalid parameter \"by\": %q is not an order (choose time, cost or count)", by))
		return
	}
	out := TopQueries{Queries: []TopQuery{}}
	if a.cfg.Running.Top != nil {
		out = a.cfg.Running.Top(r.Context(), order, limit)
	}
	w.Header().Set("Cache-Control", "no-store")
	writeData(w, out, nil)
}

// MemoryStatus is the state of the memory budget of a querier. A tenant that sees its
// own data only sees its own part.
type MemoryStatus struct {
	// LimitBytes is what all requests may hold together; 0 means no limit.
	LimitBytes int64 `json:"limitBytes"`
	UsedBytes  int64 `json:"usedBytes"`
	// Requests hold memory; Waiting ones wait for memory that others hold.
	Requests int `json:"requests"`
	Waiting  int `json:"waiting"`
	// Tenants has what the requests of each tenant hold, in bytes.
	Tenants map[string]int64 `json:"tenants"`
}

// memoryStatus answers the state of the memory budget.
func (a *API) memoryStatus(w http.ResponseWriter, r *http.Request) {
	out := MemoryStatus{Tenants: map[string]int64{}}
	if a.cfg.Running.Memory != nil {
		out = a.cfg.Running.Memory(r.Context())
	}
	w.Header().Set("Cache-Control", "no-store")
	writeData(w, out, nil)
}
