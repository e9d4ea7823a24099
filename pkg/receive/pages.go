package receive

import (
	"bytes"
	_ "embed" // of the pages
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/hindsight-io/hindsight/pkg/receive/replicate"
)

func (r *Receive) registerPages(mux *http.ServeMux) {
	if r.ownsStart() {
		mux.HandleFunc("GET /{$}", r.startPage)
	}
	mux.HandleFunc("GET /ring", r.ringPage)
	mux.HandleFunc("GET /tenants", r.tenantsPage)
	mux.HandleFunc("GET /api/v1/receive/ring", func(w http.ResponseWriter, _ *http.Request) { answer(w, r.ring()) })
	mux.HandleFunc("GET /api/v1/receive/tenants", func(w http.ResponseWriter, _ *http.Request) { answer(w, r.db.Stats()) })
	mux.HandleFunc("POST /-/flush", r.flush)
	mux.HandleFunc("GET /-/prepare-downscale", func(w http.ResponseWriter, _ *http.Request) { answer(w, r.departure()) })
	mux.HandleFunc("POST /-/prepare-downscale", r.prepareDownscale)
	mux.HandleFunc("DELETE /-/prepare-downscale", r.cancelDownscale)
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
	Members           []ringMemberState `json:"members"`
}

// ring returns the content of the page /ring: this node, its readiness, and each
// member of each hashring with its share of the series and its state. Members is
// never nil, so that JSON has an empty list before the first hashring is loaded.
func (r *Receive) ring() ringState {
	s := ringState{ReplicationFactor: r.cfg.ReplicationFactor, Ready: "yes", Members: []ringMemberState{}}
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
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer(w, r.db.Unshipped())
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

//go:embed pages.html
var pagesHTML string

var pages = template.Must(template.New("pages").Funcs(template.FuncMap{
	"percent": func(f float64) string { return fmt.Sprintf("%.1f%%", 100*f) },
	"part":    func(n, of uint64) float64 { return float64(n) / float64(of) },
	"bytes":   pageBytes,
	"count":   thousands,
	"rate":    func(f float64) string { return thousands(uint64(max(f, 0) + 0.5)) },
	"time":    pageTime,
	"visible": visible,
	"state":   memberState,
	"colour":  memberColour,
}).Parse(pagesHTML))

// page is the input of every template.
type page struct {
	Title string
	// Start is set when "/" is a page of this role.
	Start bool
	Data  any
}

// visible returns the name, quoted when it has characters that would make it look
// like another name.
func visible(name string) string {
	for _, c := range name {
		if !unicode.IsGraphic(c) {
			return strconv.QuoteToGraphic(name)
		}
	}
	return name
}

func pageTime(ms int64) string {
	if ms == 0 {
		return "–"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05")
}

func pageBytes(n int64) string {
	size, units := float64(n), []string{"B", "KiB", "MiB", "GiB", "TiB"}
	for size >= 1024 && len(units) > 1 {
		size, units = size/1024, units[1:]
	}
	if units[0] == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", size, units[0])
}

// thousands writes a number in groups of three digits.
func thousands(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}

func memberState(m ringMemberState) string {
	switch {
	case m.RoutingLoop:
		return "leads back to this node"
	case m.State == "self":
		return "this node"
	case m.State == "ok":
		return "answers"
	case m.State == "down":
		return "cannot be reached"
	case m.State == "slow":
		return "too slow, writes become hints"
	}
	return m.State
}

func memberColour(m ringMemberState) string {
	switch {
	case m.RoutingLoop, m.State == "slow":
		return "warn"
	case m.State == "self", m.State == "ok":
		return "good"
	}
	return "bad"
}

func (r *Receive) startPage(w http.ResponseWriter, _ *http.Request) {
	data := struct {
		Ring              ringState
		Labels, Listening string
		Tenants, Away     int
		Failed            int
		Series            uint64
	}{Ring: r.ring(), Labels: r.own.String(), Listening: r.cfg.RemoteWriteAddress}
	for _, m := range data.Ring.Members {
		if m.State == "down" {
			data.Away++
		}
	}
	for _, t := range r.db.Stats() {
		data.Tenants++
		data.Series += t.Series
		if t.Error != "" {
			data.Failed++
		}
	}
	r.render(w, "receive", data)
}

func (r *Receive) ringPage(w http.ResponseWriter, req *http.Request) {
	r.page(w, req, "ring", r.ring())
}

func (r *Receive) tenantsPage(w http.ResponseWriter, req *http.Request) {
	r.page(w, req, "tenants", r.db.Stats())
}

// page writes v as HTML, or as JSON when the request accepts it.
func (r *Receive) page(w http.ResponseWriter, req *http.Request, name string, v any) {
	if strings.Contains(req.Header.Get("Accept"), "application/json") {
		answer(w, v)
		return
	}
	r.render(w, name, v)
}

func (r *Receive) render(w http.ResponseWriter, name string, v any) {
	var out bytes.Buffer
	if err := pages.ExecuteTemplate(&out, name, page{Title: name, Start: r.ownsStart(), Data: v}); err != nil {
		http.Error(w, "render the page: "+err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	// The pages show names that senders choose; they run and load nothing.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(out.Bytes()) // an error means that the client has gone
}

// ownsStart reports whether "/" belongs to this role: in a process with other roles
// it does not, and the write endpoints are served there too.
func (r *Receive) ownsStart() bool { return r.cfg.RemoteWriteAddress != "" }
