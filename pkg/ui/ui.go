package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"embed"
	"encoding/json"
	"html/template"
	"io"
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// Config is what the pages know of the process that serves them.
type Config struct {
	// Role is the role of the process, such as query.
	Role    string `json:"role"`
	Version string `json:"version"`
	// Pages are the paths of the pages for which the process has data, in the order of
	// the navigation; each is one path segment.
	Pages []string `json:"pages"`
	// Links are pages of other processes.
	Links []Link `json:"links,omitempty"`
	// TenantHeader names the header of requests that has the tenant, "" where no
	// header counts.
	TenantHeader string `json:"tenantHeader,omitempty"`
	// DefaultTenant is the tenant of requests without that header.
	DefaultTenant string `json:"defaultTenant,omitempty"`
	// TenantLabel is the label of series, and of the label sets of stores, that names
	// the tenant.
	TenantLabel string `json:"tenantLabel,omitempty"`
	// Base returns the path of the first page as the browser sees it, without a slash at
	// its end; nil is "." for processes that do not know.
	Base func(*http.Request) string `json:"-"`
}

// Link is a page of another process, with a title. URL is absolute, or a path of the same
// host.
type Link struct {
	Title string `json:"title"`
	URL   string `json:"url"`
}

//go:embed all:dist
var files embed.FS

var index = template.Must(template.ParseFS(files, "dist/index.html"))

// UI serves the pages and their assets. It may be used concurrently.
type UI struct {
	config string
	paths  []string
	base   func(*http.Request) string
	// api is the path of an API that browsers without JavaScript are told of.
	api string
}

// New returns the interface of a process.
func New(cfg Config) *UI {
	if cfg.Pages == nil {
		cfg.Pages = []string{}
	}
	// Strings and slices of strings have a form in JSON.
	config, _ := json.Marshal(cfg)
	if cfg.Base == nil {
		cfg.Base = func(*http.Request) string { return "." }
	}
	u := &UI{config: string(config), paths: cfg.Pages, base: cfg.Base, api: "api/v1/blocks"}
	if cfg.Role == "query" {
		u.api = "api/v1/stores"
	}
	return u
}

// Register adds the assets to the mux, below root, which is "" or "/some/path".
func (u *UI) Register(mux *http.ServeMux, root string) {
	mux.HandleFunc("GET "+root+"/assets/{name}", asset)
}

// RegisterPages adds the assets and the pages of the configuration to the mux; the first
// page is also the one of "/".
func (u *UI) RegisterPages(mux *http.ServeMux) {
	u.Register(mux, "")
	mux.Handle("GET /{$}", u)
	for _, path := range u.paths {
		mux.Handle("GET /"+path, u)
	}
}

// policy is the Content-Security-Policy of the page, without the nonce of the one
// origin of inline styles: the style modules of the editor.
const policy = "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'self'; style-src 'self' 'nonce-"

// ServeHTTP answers with the page, which shows what belongs to the path.
func (u *UI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	nonce := rand.Text()
	var page bytes.Buffer
	if err := index.Execute(&page, struct{ Config, Nonce, API string }{u.config, nonce, u.base(r) + "/" + u.api}); err != nil {
		errorid.AnswerError(w, http.StatusInternalServerError, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy+nonce+"'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	// Each answer has a nonce of its own.
	h.Set("Cache-Control", "no-store")
	// An error means that the client has gone.
	_, _ = w.Write(page.Bytes())
}

// asset serves a file of dist/assets. The files are compressed already; a client that
// does not accept that gets them decompressed.
func asset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	compressed, err := files.ReadFile("dist/assets/" + name + ".gz")
	if err != nil {
		errorid.Answer(w, http.StatusNotFound, "", "404 page not found")
		return
	}
	h := w.Header()
	h.Set("Vary", "Accept-Encoding")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	// The name has a hash of the content.
	tag := `"` + name + `"`
	h.Set("ETag", tag)
	if matches(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	if accepts(r.Header.Get("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		_, _ = w.Write(compressed)
		return
	}
	if plain, err := gzip.NewReader(bytes.NewReader(compressed)); err == nil {
		_, _ = io.Copy(w, plain)
	}
}

// matches reports whether a header If-None-Match names the tag. Proxies that change the
// encoding make tags weak.
func matches(header, tag string) bool {
	for part := range strings.SplitSeq(header, ",") {
		if part = strings.TrimSpace(part); part == "*" || strings.TrimPrefix(part, "W/") == tag {
			return true
		}
	}
	return false
}

// accepts reports whether a header Accept-Encoding allows gzip.
func accepts(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(coding) == "gzip" {
			weight = strings.TrimPrefix(strings.ReplaceAll(weight, " ", ""), "q=")
			return strings.Trim(weight, "0.") != "" || weight == ""
		}
	}
	return false
}
