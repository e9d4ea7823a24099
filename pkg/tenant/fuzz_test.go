package tenant

import (
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// A valid name is one element of a path, and survives a header and a URL.
func FuzzValidate(f *testing.F) {
	for _, id := range []string{"team-a", "..", "a/b", `a\b`, "", ".x", "a\x00b", "\xff", "ü", "lost+found", strings.Repeat("a", 151), "a\u2028b", " "} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if Validate(id) != nil {
			return
		}
		path := filepath.Join("/data", id)
		if filepath.Dir(path) != "/data" || filepath.Base(path) != id || len(id) > maxLength {
			t.Fatalf("%q leaves its directory: %s", id, path)
		}
		if again, err := url.PathUnescape(url.PathEscape(id)); err != nil || again != id {
			t.Fatalf("%q does not survive a URL: %q, %v", id, again, err)
		}
		r := &http.Request{Header: http.Header{}}
		r.Header.Set(Header, id)
		if got, err := FromHTTP(r, Source{Headers: []string{Header}}); err != nil || got != id {
			t.Fatalf("%q from a header is %q, %v", id, got, err)
		}
	})
}
