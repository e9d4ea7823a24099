package httpserver

import (
	"net/http"
	"net/url"
	"strings"
)

// SameOrigin refuses requests that change state when a browser sends them from a page
// of another origin. A browser sends a form of any page to a server inside the network
// without a preflight request. Clients that are no browsers send neither Origin nor
// Sec-Fetch-Site and are not affected. open reports the requests that change nothing
// although their method is not GET; may be nil.
func SameOrigin(next http.Handler, open func(*http.Request) bool) http.Handler {
	check := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := check.Check(r); err != nil && !forwardedOrigin(r) && (open == nil || !open(r)) {
			refuse(w, &statusError{code: http.StatusForbidden, text: "pages of other origins may not change anything here: " + err.Error()})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// forwardedOrigin reports whether the origin is the host of the request to a proxy in
// front. A page cannot set the header without a preflight request.
func forwardedOrigin(r *http.Request) bool {
	host := r.Header.Get("X-Forwarded-Host")
	origin, err := url.Parse(r.Header.Get("Origin"))
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "", "same-origin", "none":
	default:
		return false
	}
	return err == nil && host != "" && strings.EqualFold(origin.Host, host)
}
