package httpserver

import (
	"net/http"
	"net/url"
	"strings"
)

// SameOrigin refuses requests that change something when a browser sends them
// from a page of another origin. A form of any page can be sent to a server
// inside the network without asking first. Clients that are no browsers send
// neither Origin nor Sec-Fetch-Site and are not affected. open says which
// requests change nothing although their method is not GET; may be nil.
func SameOrigin(next http.Handler, open func(*http.Request) bool) http.Handler {
	check := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := check.Check(r); err != nil && !forwardedOrigin(r) && (open == nil || !open(r)) {
			refuse(w, &statusError{code: http.StatusForbidden, text: "a page of another origin may not change anything here: " + err.Error()})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// forwardedOrigin says whether the origin is the host that a proxy in front was
// asked for. A page cannot set the header without asking first.
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
