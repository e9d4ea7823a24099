package errorid

import (
	_ "embed"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

//go:embed pages.txt
var pages string

// Page is the explanation of one id.
type Page struct {
	ID    ID
	Title string
	// Text is Markdown: what the error means, what to do, flags and metrics.
	Text string
}

// heading begins a page: "## hs-id: title".
const heading = "## " + prefix

// Pages returns the pages of all ids, in the order of their list.
func Pages() []Page {
	var out []Page
	for i, part := range strings.Split("\n"+pages, "\n"+heading) {
		if i == 0 {
			continue // the introduction
		}
		head, text, _ := strings.Cut(part, "\n")
		id, title, _ := strings.Cut(head, ": ")
		// The headings of groups belong to no page.
		if at := strings.Index(text, "\n# "); at >= 0 {
			text = text[:at]
		}
		out = append(out, Page{ID: ID(prefix + id), Title: title, Text: strings.TrimSpace(text)})
	}
	return out
}

// Explain returns the page of an id. It accepts the id without "hs-" and with brackets.
func Explain(id string) (Page, bool) {
	id = strings.Trim(strings.TrimSpace(id), "[]")
	if !strings.HasPrefix(id, prefix) {
		id = prefix + id
	}
	all := Pages()
	i := slices.IndexFunc(all, func(p Page) bool { return string(p.ID) == id })
	if i < 0 {
		return Page{}, false
	}
	return all[i], true
}

// String returns the page as text.
func (p Page) String() string { return fmt.Sprintf("%s: %s\n\n%s\n", p.ID, p.Title, p.Text) }

// Path is where a process serves the pages over HTTP, before the id.
const Path = "/errors/"

// Serve answers with the page of the id at the end of the path, as text.
func Serve(w http.ResponseWriter, r *http.Request) {
	page, ok := Explain(r.PathValue("id"))
	if !ok {
		Answer(w, http.StatusNotFound, HTTPNotFound, "there is no such id of an error")
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	// An error means that the client has gone.
	_, _ = w.Write([]byte(page.String()))
}

// Hint says where the page of an id is, for the end of a line in a terminal.
func Hint(id ID) string { return fmt.Sprintf("(see: hindsight tools explain-error %s)", id) }
