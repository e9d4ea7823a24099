package promapi

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// unmatched is the pattern of the requests that no other pattern of the API takes.
const unmatched = "/api/v1/"

// methodError says which methods a path has.
type methodError struct{ method, path, allow string }

func (e methodError) Error() string {
	return fmt.Sprintf("the API at %q has no method %.20q: use %s", e.path, e.method, e.allow)
}

// ErrorID returns the id of the status.
func (methodError) ErrorID() errorid.ID { return errorid.HTTPMethod }

// answerUnmatched answers the requests that no other pattern of the mux takes. Pages of
// other origins may ask with OPTIONS for each path.
func answerUnmatched(mux *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		allow := methods(mux, r)
		if len(allow) == 0 {
			writeError(w, http.StatusNotFound, "not_found", errUnknownPath(r.URL.Path))
			return
		}
		list := strings.Join(append(allow, http.MethodOptions), ", ")
		w.Header().Set("Allow", list)
		writeError(w, http.StatusMethodNotAllowed, "bad_data", methodError{r.Method, r.URL.Path, list})
	}
}

// methods returns the methods for which the mux has a pattern for the path of r. The mux
// itself knows them only where nothing takes all other methods.
func methods(mux *http.ServeMux, r *http.Request) []string {
	var out []string
	for _, method := range []string{http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodPost} {
		_, pattern := mux.Handler(&http.Request{Method: method, Host: r.Host, URL: r.URL})
		if pattern != "" && pattern != unmatched {
			out = append(out, method)
		}
	}
	return out
}

// withoutOrigin hides the origin of requests from the API package of Prometheus, which
// would replace the headers of answering by its own: those let no page of another origin
// read whether an answer is complete.
func withoutOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" {
			r = r.Clone(r.Context())
			r.Header.Del("Origin")
		}
		next.ServeHTTP(w, r)
	})
}
