package requestlog

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/requestid"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// GRPC returns the handler of the statistics of a server that logs its calls; nil when
// none are logged.
func (l *Log) GRPC() stats.Handler {
	if !l.config.grpc.logs() {
		return nil
	}
	return (*grpcLog)(l)
}

// grpcLog implements stats.Handler.
type grpcLog Log

type callKey struct{}

// call is what is known of one call. Messages may be read and written concurrently.
type call struct {
	attrs    []slog.Attr
	usual    slog.Level
	noted    *tenant.Noted
	began    time.Time
	in, out  atomic.Int64 // bytes of messages, not compressed
	messages atomic.Int64 // sent
}

// TagRPC implements stats.Handler.
func (l *grpcLog) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if len(l.config.grpcOnly) > 0 && !l.config.grpcOnly[info.FullMethodName] {
		return ctx
	}
	sent := ""
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		if v := md.Get(requestid.MetadataKey); len(v) > 0 {
			sent = v[0]
		}
	}
	id := requestid.Accept(sent)
	ctx, noted := tenant.WithNoted(requestid.NewContext(ctx, id))
	c := &call{noted: noted, began: time.Now(), usual: usualCallLevel(info.FullMethodName)}
	c.attrs = []slog.Attr{
		slog.String("protocol", "grpc"), slog.String("method", bounded(info.FullMethodName, maxPath)),
		slog.String("request_id", id),
	}
	if p, ok := peer.FromContext(ctx); ok {
		c.attrs = append(c.attrs, slog.String("remote", p.Addr.String()))
	}
	return context.WithValue(ctx, callKey{}, c)
}

// HandleRPC implements stats.Handler.
func (l *grpcLog) HandleRPC(ctx context.Context, s stats.RPCStats) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return
	}
	switch s := s.(type) {
	case *stats.Begin:
		if rule := l.config.grpc; rule.start && c.usual >= rule.level {
			l.logger.LogAttrs(ctx, c.usual, "request started", c.attrs...)
		}
	case *stats.InPayload:
		c.in.Add(int64(s.Length))
	case *stats.OutPayload:
		c.out.Add(int64(s.Length))
		c.messages.Add(1)
	case *stats.End:
		l.end(ctx, c, s.Error)
	}
}

// end logs the end of a call.
func (l *grpcLog) end(ctx context.Context, c *call, err error) {
	code := status.Code(err)
	level := callLevel(code, c.usual)
	if level < l.config.grpc.level {
		return
	}
	attrs := appendText(c.attrs, "tenant", bounded(c.noted.Tenant(), maxTenant))
	attrs = append(attrs, slog.String("status", code.String()), slog.Duration("duration", time.Since(c.began)),
		slog.Int64("request_bytes", c.in.Load()), slog.Int64("response_bytes", c.out.Load()), slog.Int64("messages", c.messages.Load()))
	if err != nil {
		attrs = append(attrs, slog.String("err", bounded(err.Error(), maxError)))
	}
	l.logger.LogAttrs(ctx, level, "request finished", attrs...)
}

// usualCallLevel is the severity of a call that succeeds. Probes are many, and say
// little.
func usualCallLevel(method string) slog.Level {
	if method == "/grpc.health.v1.Health/Check" || method == "/thanos.info.Info/Info" {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// callLevel is the severity of a call by its code: an error where the server failed, a
// warning where the client did.
func callLevel(code codes.Code, usual slog.Level) slog.Level {
	switch code {
	case codes.OK:
		return usual
	case codes.Unknown, codes.Internal, codes.DataLoss, codes.Unimplemented:
		return slog.LevelError
	}
	return max(usual, slog.LevelWarn)
}

// TagConn implements stats.Handler.
func (l *grpcLog) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (l *grpcLog) HandleConn(context.Context, stats.ConnStats) {}
