package server

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/httpserver"
)

// Bounds of the profiling pages.
const (
	maxProfileTime = 2 * time.Minute
	maxProfiles    = 4
	maxSymbolBody  = 1 << 20
)

// registerDebug adds the pages of pprof. At most maxProfiles run at the same time, each
// for at most maxProfileTime.
func registerDebug(mux *http.ServeMux) {
	slots := make(chan struct{}, maxProfiles)
	bounded := func(h http.HandlerFunc) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if s := r.FormValue("seconds"); s != "" {
				n, err := strconv.ParseFloat(s, 64)
				if err != nil || n < 0 || n > maxProfileTime.Seconds() {
					errorid.Answer(w, http.StatusBadRequest, "", fmt.Sprintf("seconds must be a number from 0 to %.0f", maxProfileTime.Seconds()))
					return
				}
			}
			select {
			case slots <- struct{}{}:
			default:
				w.Header().Set("Retry-After", "10")
				errorid.Answer(w, http.StatusServiceUnavailable, errorid.TooManyRequests, fmt.Sprintf("%d profiles are running; try again later", maxProfiles))
				return
			}
			defer func() { <-slots }()
			h(w, r)
		})
	}
	mux.Handle("/debug/pprof/", reading(bounded(pprof.Index)))
	mux.Handle("/debug/pprof/cmdline", reading(http.HandlerFunc(commandLine)))
	mux.Handle("/debug/pprof/profile", reading(bounded(pprof.Profile)))
	mux.Handle("/debug/pprof/trace", reading(bounded(pprof.Trace)))
	mux.Handle("/debug/pprof/symbol", bounded(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxSymbolBody)
		pprof.Symbol(w, r)
	}))
}

// profilingHandler serves the pages of pprof on a listener of their own, behind the
// checks of every request.
func (s site) profilingHandler() http.Handler {
	mux := http.NewServeMux()
	registerDebug(mux)
	return s.middleware(mux, s.web.Guard(s.limits.Forms(httpserver.SameOrigin(mux, nil))))
}

// reading refuses methods other than GET and HEAD.
func reading(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			errorid.Answer(w, http.StatusMethodNotAllowed, errorid.HTTPMethod, "method not allowed: use GET")
			return
		}
		h.ServeHTTP(w, r)
	})
}

// commandLine writes the command line as pprof does, without secrets.
func commandLine(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprint(w, strings.Join(flags.RedactArgs(os.Args), "\x00"))
}
