package receive

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/version"

	"github.com/hindsight-io/hindsight/pkg/deletion/deletehttp"
	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb"
	"github.com/hindsight-io/hindsight/pkg/receive/replicate"
	"github.com/hindsight-io/hindsight/pkg/receive/tenantlimits"
	"github.com/hindsight-io/hindsight/pkg/ui"
)

// RegisterHTTP adds the API and the pages, the first of which is that of the ring.
func (r *Receive) RegisterHTTP(mux *http.ServeMux) {
	r.RegisterAPI(mux)
	deletions := deletehttp.Handler{Bucket: r.bucket}
	if !r.cfg.EnableAdmin {
		deletions.Disabled = "default; --web.enable-admin-api enables it"
	}
	deletions.Register(mux)
	u := ui.New(ui.Config{Role: "receive", Version: version.Version, Pages: []string{"ring", "tenants", "status"}})
	u.Register(mux, "")
	mux.Handle("GET /{$}", u)
	mux.Handle("GET /status", u)
	r.RegisterPages(mux, u)
}

// RegisterAPI adds the API beside that of writes, for a process whose pages are those of
// another role.
func (r *Receive) RegisterAPI(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/receive/ring", func(w http.ResponseWriter, _ *http.Request) { answer(w, r.ring()) })
	mux.HandleFunc("GET /api/v1/receive/tenants", func(w http.ResponseWriter, _ *http.Request) { answer(w, r.tenantStates()) })
	mux.HandleFunc("GET /api/v1/receive/cardinality", r.cardinality)
	mux.HandleFunc("POST /-/flush", r.flush)
	mux.HandleFunc("GET /-/prepare-downscale", func(w http.ResponseWriter, _ *http.Request) { answer(w, r.departure()) })
	mux.HandleFunc("POST /-/prepare-downscale", r.prepareDownscale)
	mux.HandleFunc("DELETE /-/prepare-downscale", r.cancelDownscale)
}

// RegisterPages adds the pages of the ring and of the tenants, which page serves. Clients
// that accept JSON and no HTML get their data.
func (r *Receive) RegisterPages(mux *http.ServeMux, page http.Handler) {
	for path, data := range map[string]func() any{
		"/ring": func() any { return r.ring() }, "/tenants": func() any { return r.tenantStates() },
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, req *http.Request) {
			if accept := req.Header.Get("Accept"); strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/html") {
				answer(w, data())
				return
			}
			page.ServeHTTP(w, req)
		})
	}
}

// tenantState is a tenant as this node sees it.
type tenantState struct {
	multitsdb.TenantStats
	// Limits are those of the limits file that hold for the tenant.
	Limits []tenantlimits.Named `json:"limits"`
}

// tenantStates are the tenants that the node stores, in the order of their names.
func (r *Receive) tenantStates() []tenantState {
	stats := r.db.Stats()
	out := make([]tenantState, len(stats))
	for i, s := range stats {
		out[i] = tenantState{s, r.limits.For(s.Tenant).Named()}
	}
	return out
}

// answer writes JSON.
func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// ringMemberState is one member of a hashring as this node sees it.
type ringMemberState struct {
	Hashring string  `json:"hashring"`
	Address  string  `json:"address"`
	Zone     string  `json:"zone,omitempty"`
	Self     bool    `json:"self,omitempty"`
	Share    float64 `json:"share"`
	// RoutingLoop is set when writes to the member's address came back to this node: a
	// routing loop.
	RoutingLoop bool `json:"leads_back,omitempty"`
	replicate.PeerState
}

// ringState describes the hashrings as this node sees them.
type ringState struct {
	Self              string            `json:"self"`
	ReplicationFactor int               `json:"replication_factor"`
	Ready             string            `json:"ready"`
	ExternalLabels    map[string]string `json:"external_labels"`
	RemoteWrite       string            `json:"remote_write_address,omitempty"`
	Members           []ringMemberState `json:"members"`
	// Discovery is absent when the configuration lists the members.
	Discovery *discoveryState `json:"discovery,omitempty"`
}

// ring returns the content of the page /ring: this node, its readiness, and each
// member of each hashring with its share of the series and its state. Members is
// never nil, so that JSON has an empty list before the first hashring is loaded.
func (r *Receive) ring() ringState {
	s := ringState{
		ReplicationFactor: r.cfg.ReplicationFactor, Ready: "yes", Members: []ringMemberState{},
		ExternalLabels: r.own.Map(), RemoteWrite: r.cfg.RemoteWriteAddress, Discovery: r.discovery(),
	}
	if err := r.Ready(); err != nil {
		s.Ready = err.Error()
	}
	if r.writer == nil {
		return s
	}
	rings, self := r.writer.Rings()
	s.Self = self
	if rings == nil {
		return s
	}
	peers := r.writer.Peers()
	for _, ring := range rings.Base() {
		share := ring.Share()
		for i, e := range ring.Endpoints() {
			m := ringMemberState{Hashring: ring.Name(), Address: e.Address, Zone: e.AZ, Self: e.Is(self), Share: share[i]}
			m.PeerState = replicate.PeerState{State: "self"}
			if at := slices.IndexFunc(peers, func(p replicate.PeerState) bool { return p.Address == e.Address }); at >= 0 {
				m.PeerState = peers[at]
			}
			m.PeerState.Address = e.Address
			m.RoutingLoop = r.loops.has(e.Address)
			s.Members = append(s.Members, m)
		}
	}
	return s
}

// flush writes heads to blocks and uploads them, of one tenant or of all.
func (r *Receive) flush(w http.ResponseWriter, req *http.Request) {
	if err := r.db.Flush(req.Context(), req.URL.Query().Get("tenant")); err != nil {
		errorid.AnswerError(w, http.StatusInternalServerError, err)
		return
	}
	answer(w, r.db.Unshipped())
}

// tsdbStatus answers the TSDB status of one tenant or of all.
func (r *Receive) tsdbStatus(w http.ResponseWriter, req *http.Request) {
	q := req.URL.Query()
	limit, ok := limitOf(w, req)
	if !ok {
		return
	}
	only := r.cfg.DefaultTenant
	for _, h := range r.tenants.Headers {
		if v := req.Header.Get(h); v != "" {
			only = v
			if q.Get("all_tenants") == "true" {
				badData(w, "all_tenants and a tenant header exclude each other")
				return
			}
			break
		}
	}
	if q.Get("all_tenants") == "true" {
		only = ""
	}
	answer(w, map[string]any{"status": "success", "data": r.db.Cardinality(only, limit)})
}

// cardinality answers the metrics and labels of one tenant that have the most series,
// for the page of the tenants.
func (r *Receive) cardinality(w http.ResponseWriter, req *http.Request) {
	limit, ok := limitOf(w, req)
	if !ok {
		return
	}
	id := req.URL.Query().Get("tenant")
	if id == "" {
		badData(w, "missing parameter \"tenant\": the name of a tenant as /api/v1/receive/tenants has it")
		return
	}
	answer(w, map[string]any{"status": "success", "data": r.db.Cardinality(id, limit)})
}

// limitOf reads the parameter limit, 10 where there is none. It answers the request when
// the parameter is no number from 1 to 10000.
func limitOf(w http.ResponseWriter, req *http.Request) (limit int, ok bool) {
	text := req.URL.Query().Get("limit")
	if text == "" {
		return 10, true
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > 10_000 {
		badData(w, fmt.Sprintf("limit %q is not a number from 1 to 10000", text))
		return 0, false
	}
	return limit, true
}

func badData(w http.ResponseWriter, text string) {
	errorid.AnswerJSON(w, http.StatusBadRequest, "bad_data", errorid.BadRequest, text)
}
