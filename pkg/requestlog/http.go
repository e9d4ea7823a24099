package requestlog

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hindsight-io/hindsight/pkg/requestid"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// HTTP logs the requests that next serves. It must be inside of requestid.Handler.
func (l *Log) HTTP(next http.Handler) http.Handler {
	rule := l.config.http
	if !rule.logs() {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !l.config.choosesHTTP(r) {
			next.ServeHTTP(w, r)
			return
		}
		ctx, noted := tenant.WithNoted(r.Context())
		body := &countedBody{ReadCloser: r.Body}
		answer := &countedAnswer{ResponseWriter: w}
		attrs := requestAttrs(r)
		usual := usualLevel(r.URL.Path)
		if rule.start && usual >= rule.level {
			l.logger.LogAttrs(ctx, usual, "request started", attrs...)
		}
		began := time.Now()
		r = r.WithContext(ctx)
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = body
		}
		// Deferred, because a handler ends a broken answer with a panic.
		complete := false
		defer func() {
			level := usual
			switch {
			case !complete || answer.status >= http.StatusInternalServerError:
				level = slog.LevelError
			case answer.status >= http.StatusBadRequest:
				level = max(usual, slog.LevelWarn)
			}
			if level < rule.level {
				return
			}
			attrs = appendText(attrs, "tenant", bounded(noted.Tenant(), maxTenant))
			attrs = append(attrs, slog.Int("status", answer.code()), slog.Duration("duration", time.Since(began)),
				slog.Int64("request_bytes", body.n), slog.Int64("response_bytes", answer.n))
			if !complete {
				attrs = append(attrs, slog.Bool("aborted", true))
			}
			l.logger.LogAttrs(ctx, level, "request finished", attrs...)
		}()
		next.ServeHTTP(answer, r)
		complete = true
	})
}

// requestAttrs describes a request by what is known before it is served. The parameters
// of the URL are left out: they may hold secrets.
func requestAttrs(r *http.Request) []slog.Attr {
	attrs := []slog.Attr{
		slog.String("protocol", "http"), slog.String("method", bounded(r.Method, maxUser)),
		slog.String("path", bounded(r.URL.Path, maxPath)), slog.String("remote", r.RemoteAddr),
		slog.String("request_id", requestid.FromContext(r.Context())),
	}
	if user, _, ok := r.BasicAuth(); ok {
		attrs = appendText(attrs, "user", bounded(user, maxUser))
	}
	return attrs
}

// usualLevel is the severity of a request that succeeds. Probes and scrapes are many,
// and say little.
func usualLevel(path string) slog.Level {
	for _, end := range []string{"/-/healthy", "/-/ready", "/healthy", "/ready", "/metrics"} {
		if strings.HasSuffix(path, end) {
			return slog.LevelDebug
		}
	}
	return slog.LevelInfo
}

// choosesHTTP reports whether the filters choose the request: its path, with or without
// the parameters, and the port that the client named or that the server listens on.
func (c *Config) choosesHTTP(r *http.Request) bool {
	if len(c.httpOnly) == 0 {
		return true
	}
	for _, m := range c.httpOnly {
		if (m.Path == r.URL.Path || m.Path == r.URL.RequestURI()) && (m.Port == 0 || hasPort(r, m.Port)) {
			return true
		}
	}
	return false
}

func hasPort(r *http.Request, port uint16) bool {
	if _, p, err := net.SplitHostPort(r.Host); err == nil && p == strconv.Itoa(int(port)) {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.Port == int(port)
}

// countedBody counts the bytes that the handler read.
type countedBody struct {
	io.ReadCloser
	n int64
}

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	return n, err
}

// countedAnswer records the status of an answer and counts the bytes of its body.
type countedAnswer struct {
	http.ResponseWriter
	status int
	n      int64
}

// WriteHeader implements http.ResponseWriter.
func (a *countedAnswer) WriteHeader(code int) {
	if a.status == 0 && code >= http.StatusOK {
		a.status = code
	}
	a.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (a *countedAnswer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(p)
	a.n += int64(n)
	return n, err
}

// Flush implements http.Flusher.
func (a *countedAnswer) Flush() {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	_ = http.NewResponseController(a.ResponseWriter).Flush() // the next write has the error
}

// Unwrap is for http.ResponseController.
func (a *countedAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// code is the status that the client gets: 200 where the handler has not chosen one.
func (a *countedAnswer) code() int {
	if a.status == 0 {
		return http.StatusOK
	}
	return a.status
}
