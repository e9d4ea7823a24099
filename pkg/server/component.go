// Package server runs a component as a process: listeners for HTTP and gRPC, health
// and readiness, metrics, TLS, and the order of stopping.
package server

import (
	"context"
	"net/http"

	"google.golang.org/grpc"
)

// Component is one role of the program, as the server sees it.
type Component interface {
	// RegisterHTTP adds the component's pages and APIs. The server itself has
	// /-/healthy, /-/ready, /metrics and /debug/pprof.
	RegisterHTTP(mux *http.ServeMux)
	// RegisterGRPC adds the component's gRPC services.
	RegisterGRPC(r grpc.ServiceRegistrar)
	// Ready returns nil when the component can serve, otherwise an error with the
	// missing condition. It is cheap and may be called at any time.
	Ready() error
	// Run does the component's work until ctx is cancelled, then stops in
	// order and returns nil. Any other return ends the process.
	Run(ctx context.Context) error
}

// Drainer is a Component with calls that do not end by themselves. Drain ends them
// soon; it is called once, before the gRPC server waits for its calls.
type Drainer interface {
	Drain()
}

// Preparer is a Component with work to do before the process stops, while it still
// serves. PrepareStop is called once, after the signal to stop; the process stops when it
// returns, so it bounds its time itself.
type Preparer interface {
	PrepareStop(ctx context.Context)
}

// Listener is a Component with an HTTP listener of its own. UseMiddleware is called once,
// before Run, with the middleware that counts, identifies and logs the requests of next,
// which serves the patterns of mux.
type Listener interface {
	UseMiddleware(middleware func(mux *http.ServeMux, next http.Handler) http.Handler)
}
