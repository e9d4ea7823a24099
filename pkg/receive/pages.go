package receive

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hindsight-io/hindsight/pkg/receive/replicate"
)

func (r *Receive) registerPages(mux *http.ServeMux) {
	mux.HandleFunc("GET /ring", r.ringPage)
	mux.HandleFunc("GET /tenants", r.tenantsPage)
	mux.HandleFunc("GET /api/v1/receive/ring", func(w http.ResponseWriter, _ *http.Request) { answer(w, r.ring()) })
	mux.HandleFunc("GET /api/v1/receive/tenants", func(w http.ResponseWriter, _ *http.Request) { answer(w, r.db.Stats()) })
	mux.HandleFunc("POST /-/flush", r.flush)
	mux.HandleFunc("GET /-/prepare-downscale", func(w http.ResponseWriter, _ *http.Request) { answer(w, r.db.Unshipped()) })
	mux.HandleFunc("POST /-/prepare-downscale", r.prepareDownscale)
}

// answer writes JSON. A client that has gone away needs none.
func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// RingMember is one member of a hashring as this node sees it.
type RingMember struct {
	Hashring string  `json:"hashring"`
	Address  string  `json:"address"`
	Zone     string  `json:"zone,omitempty"`
	Self     bool    `json:"self,omitempty"`
	Share    float64 `json:"share"`
	replicate.PeerState
}

// RingState is the hashrings as this node sees them.
type RingState struct {
	Self              string       `json:"self"`
	ReplicationFactor int          `json:"replication_factor"`
	Ready             string       `json:"ready"`
	Members           []RingMember `json:"members"`
}

func (r *Receive) ring() RingState {
	s := RingState{ReplicationFactor: r.cfg.ReplicationFactor, Ready: "yes", Members: []RingMember{}}
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
			m := RingMember{Hashring: ring.Name(), Address: e.Address, Zone: e.AZ, Self: e.Is(self), Share: share[i]}
			m.PeerState = replicate.PeerState{State: "self"}
			if at := slices.IndexFunc(peers, func(p replicate.PeerState) bool { return p.Address == e.Address }); at >= 0 {
				m.PeerState = peers[at]
			}
			m.PeerState.Address = e.Address
			s.Members = append(s.Members, m)
		}
	}
	return s
}

// flush writes heads to blocks and uploads them, of one tenant or of all.
func (r *Receive) flush(w http.ResponseWriter, req *http.Request) {
	if err := r.db.Flush(req.Context(), req.URL.Query().Get("tenant")); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, r.db.Unshipped())
}

// prepareDownscale makes sure that nothing is on this node alone. It is safe to
// take the node away when the answer is 200 and the node is no longer in the
// ring.
func (r *Receive) prepareDownscale(w http.ResponseWriter, req *http.Request) {
	err := r.db.Flush(req.Context(), "")
	left := r.db.Unshipped()
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	case left.Blocks > 0:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_ = json.NewEncoder(w).Encode(left)
	default:
		answer(w, left)
	}
}

// tsdbStatus answers the TSDB status of one tenant or of all.
func (r *Receive) tsdbStatus(w http.ResponseWriter, req *http.Request) {
	q := req.URL.Query()
	limit := 10
	if text := q.Get("limit"); text != "" {
		if _, err := fmt.Sscanf(text, "%d", &limit); err != nil || limit < 1 || limit > 10_000 {
			badData(w, fmt.Sprintf("limit %q is not a number from 1 to 10000", text))
			return
		}
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

func badData(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusBadRequest)
	_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": "bad_data", "error": text})
}

var pages = template.Must(template.New("pages").Funcs(template.FuncMap{
	"percent": func(f float64) string { return fmt.Sprintf("%.1f %%", 100*f) },
	"time": func(ms int64) string {
		if ms == 0 {
			return "–"
		}
		return time.UnixMilli(ms).UTC().Format(time.RFC3339)
	},
	"number": func(f float64) string { return fmt.Sprintf("%.0f", f) },
}).Parse(`{{define "head"}}<!doctype html><meta charset="utf-8"><title>{{.}}</title>
<style>body{font:15px/1.5 system-ui,sans-serif;margin:2em}table{border-collapse:collapse}
td,th{padding:.3em .9em;border-bottom:1px solid #ccc;text-align:left}.down,.slow{color:#b00}</style><h1>{{.}}</h1>{{end}}
{{define "ring"}}{{template "head" "Hash ring"}}
<p>Replication factor {{.ReplicationFactor}} · this node: {{or .Self "routes only, or has no ring"}} · ready: {{.Ready}}</p>
<table><tr><th>Hashring<th>Member<th>Zone<th>State<th>Share<th>Waiting<th>Missed, on disk<th>Last error</tr>
{{range .Members}}<tr><td>{{.Hashring}}<td>{{.Address}}<td>{{.Zone}}<td class="{{.State}}">{{.State}}<td>{{percent .Share}}<td>{{.WaitingBytes}} B<td>{{.HintBytes}} B<td>{{.LastError}}</tr>
{{end}}</table>{{end}}
{{define "tenants"}}{{template "head" "Tenants"}}
<table><tr><th>Tenant<th>Series<th>Samples/s<th>Oldest sample<th>Newest sample<th>Blocks</tr>
{{range .}}<tr><td>{{.Tenant}}<td>{{.Series}}<td>{{number .SamplesPerSecond}}<td>{{time .MinTime}}<td>{{time .MaxTime}}<td>{{.Blocks}}</tr>
{{end}}</table>{{end}}`))

func (r *Receive) ringPage(w http.ResponseWriter, req *http.Request) {
	r.page(w, req, "ring", r.ring())
}

func (r *Receive) tenantsPage(w http.ResponseWriter, req *http.Request) {
	r.page(w, req, "tenants", r.db.Stats())
}

// page shows v to people, and gives it as JSON to programs that ask so.
func (r *Receive) page(w http.ResponseWriter, req *http.Request, name string, v any) {
	if strings.Contains(req.Header.Get("Accept"), "application/json") {
		answer(w, v)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := pages.ExecuteTemplate(w, name, v); err != nil {
		r.logger.Debug("page not written", "page", name, "err", err)
	}
}
