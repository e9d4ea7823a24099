package httpserver

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits bounds the clients of one listener. Zero is no limit.
type Limits struct {
	// MaxConnections bounds the open connections. At the bound, idle ones are closed
	// for new ones; new ones wait while all are busy.
	MaxConnections int
	// HeaderTimeout bounds the time in which a client sends the header.
	HeaderTimeout time.Duration
	// IdleTimeout bounds the time of a connection without a request.
	IdleTimeout time.Duration
	// StallTimeout bounds the time in which a client reads nothing of its answer.
	StallTimeout time.Duration
	// BodyGrace and BodyRate bound the time of a body: BodyGrace, and a second
	// for each BodyRate bytes that have arrived. BodyRate must be above 0.
	BodyGrace time.Duration
	BodyRate  int64
	// MaxHeader bounds the size of the header in bytes.
	MaxHeader int
	// MaxBody bounds the size of a body in bytes.
	MaxBody int64
	// MaxForm bounds the size of a form in bytes. Forms are read into memory before
	// any handler runs; no part of one goes to a file.
	MaxForm int64
	// MaxForms bounds the bytes of all forms together, not counting the first 64 KiB of
	// each.
	MaxForms int64
}

// Defaults are the limits of the listeners of APIs and pages.
func Defaults() Limits {
	return Limits{
		MaxConnections: 1024,
		HeaderTimeout:  10 * time.Second,
		IdleTimeout:    3 * time.Minute,
		StallTimeout:   10 * time.Second,
		BodyGrace:      30 * time.Second,
		BodyRate:       8 << 10,
		MaxHeader:      256 << 10,
		MaxBody:        256 << 20,
		MaxForm:        4 << 20,
		MaxForms:       64 << 20,
	}
}

// Server is an HTTP server on one listener.
type Server struct {
	http *http.Server
	lis  net.Listener
}

// New makes a server of h on lis, which it takes over. With a TLS configuration
// it serves TLS, with HTTP/2 where the configuration offers h2.
func New(lis net.Listener, h http.Handler, limits Limits, tlsConfig *tls.Config, logger *slog.Logger) *Server {
	conns := newConnections(limits)
	srv := &http.Server{
		Handler:           limits.bounded(h),
		ReadHeaderTimeout: limits.HeaderTimeout,
		IdleTimeout:       limits.IdleTimeout,
		MaxHeaderBytes:    limits.MaxHeader,
		TLSConfig:         tlsConfig,
		ConnState:         conns.state,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 250,
			SendPingTimeout:      30 * time.Second,
			PingTimeout:          15 * time.Second,
		},
	}
	if tlsConfig != nil {
		srv.Protocols = protocols(tlsConfig.NextProtos)
	}
	return &Server{http: srv, lis: &listener{Listener: lis, conns: conns}}
}

// protocols are those that the TLS configuration offers; without any, both.
func protocols(names []string) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(len(names) == 0)
	for _, n := range names {
		if n == "h2" {
			p.SetHTTP2(true)
		}
	}
	return p
}

// Addr is the address of the listener.
func (s *Server) Addr() net.Addr { return s.lis.Addr() }

// Serve answers requests until Shutdown or Close, and then returns nil.
func (s *Server) Serve() error {
	var err error
	if s.http.TLSConfig != nil {
		err = s.http.ServeTLS(s.lis, "", "")
	} else {
		err = s.http.Serve(s.lis)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Close closes the listener and all connections at once, also before Serve.
func (s *Server) Close() {
	_ = s.http.Close()
	_ = s.lis.Close() // again, after Serve
}

// HTTP is the server underneath, for Shutdown and Close.
func (s *Server) HTTP() *http.Server { return s.http }
