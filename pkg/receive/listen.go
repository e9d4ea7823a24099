package receive

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/httpserver"
)

// listen opens the listener of the write endpoints; nil when the caller serves
// them.
func (r *Receive) listen() (*httpserver.Server, error) {
	if r.cfg.RemoteWriteAddress == "" {
		return nil, nil
	}
	lis, err := httpserver.Listen("remote write", "--remote-write.address", r.cfg.RemoteWriteAddress)
	if err != nil {
		return nil, err
	}
	if addr, ok := lis.Addr().(*net.TCPAddr); ok {
		r.listening.Store(addr)
	}
	files := r.web.TLS()
	if r.tls != nil {
		files = r.tls.Config()
	}
	r.logger.Info("listening for remote write", "address", lis.Addr().String(), "tls", files != nil)
	mux := http.NewServeMux()
	r.RegisterWrite(mux)
	mux.HandleFunc("GET /api/v1/status/tsdb", r.tsdbStatus)
	r.registerProbes(mux)
	limits := httpserver.Defaults()
	// Senders keep several connections each.
	limits.MaxConnections, limits.IdleTimeout = r.cfg.MaxConnections, 5*time.Minute
	limits.MaxBody = max(limits.MaxBody, 2*r.cfg.MaxRequestBytes.Int64())
	h := r.web.Guard(httpserver.SameOrigin(mux, nil))
	if r.middleware != nil {
		h = r.middleware(mux, h)
	}
	return httpserver.New(lis, h, limits, files, r.logger), nil
}

// UseMiddleware sets the middleware of the write listener. It must be called before Run.
func (r *Receive) UseMiddleware(middleware func(mux *http.ServeMux, next http.Handler) http.Handler) {
	r.middleware = middleware
}

// registerProbes adds the probes, so that a load balancer can probe the port that it
// sends writes to.
func (r *Receive) registerProbes(mux *http.ServeMux) {
	for _, path := range []string{"/-/healthy", "/healthy"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "OK") })
	}
	for _, path := range []string{"/-/ready", "/ready"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			if err := r.Ready(); err != nil {
				errorid.Answer(w, http.StatusServiceUnavailable, errorid.Of(err), "NOT OK: "+err.Error())
				return
			}
			fmt.Fprintln(w, "OK")
		})
	}
}

// listenCapnp opens the listener for peers that write over Cap'n Proto, nil when it
// is off. It has the TLS of the gRPC server. Several nodes on one machine share the
// default address: only the first gets it, and the others run without. A node whose other
// servers have TLS or passwords serves plain text only on another address than the default:
// everyone may write to it.
func (r *Receive) listenCapnp() (net.Listener, error) {
	address := r.cfg.CapnProtoAddress
	if address == "" {
		return nil, nil
	}
	encrypted := r.capnpTLS != nil && !r.cfg.CapnProtoPlain
	if address == defaultCapnProtoAddress && r.protected && !encrypted {
		r.logger.Info("not listening for Cap'n Proto: it would have no TLS, and other servers of this node have TLS or passwords", "flag", "--receive.capnproto-address")
		return nil, nil
	}
	lis, err := net.Listen("tcp", address)
	switch {
	case err == nil:
		r.logger.Info("listening for Cap'n Proto", "address", lis.Addr().String(), "tls", encrypted)
		if encrypted {
			return tls.NewListener(lis, r.capnpTLS.Config()), nil
		}
		return lis, nil
	case address == defaultCapnProtoAddress && errors.Is(err, syscall.EADDRINUSE):
		r.logger.Warn("not listening for Cap'n Proto", "address", address, "err", err)
		return nil, nil
	}
	return nil, flags.Invalid(fmt.Errorf("listen for Cap'n Proto on --receive.capnproto-address %s: %w", address, err))
}

// RemoteWriteAddr is the bound address of the write endpoints, nil before Run
// has opened it.
func (r *Receive) RemoteWriteAddr() net.Addr {
	if a := r.listening.Load(); a != nil {
		return a
	}
	return nil
}
