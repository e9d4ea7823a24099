package query

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// slowLog writes a line for each request that took long. The zero value writes none.
type slowLog struct {
	threshold time.Duration
	logger    *slog.Logger
	stores    func() int // the stores that are known
}

// maxTimeParam bounds the text of a time in a log line, in bytes.
const maxTimeParam = 64

// timeRange returns the times of a request as the client wrote them.
func timeRange(r *http.Request) string {
	var parts []string
	for _, key := range []string{"time", "start", "end", "step"} {
		if v := r.Form.Get(key); v != "" {
			parts = append(parts, key+"="+cut(v, maxTimeParam))
		}
	}
	return strings.Join(parts, " ")
}

// note logs the request of a, which took d, if that is long. ctx is that of the request.
func (s slowLog) note(ctx context.Context, a *account, d time.Duration) {
	if s.threshold <= 0 || d < s.threshold {
		return
	}
	a.mtx.Lock()
	series, samples, bytes := a.series, a.samples, a.bytes
	queued := a.spent[stageQueued]
	if a.stage == stageQueued {
		queued += time.Since(a.since)
	}
	a.mtx.Unlock()
	report := storeapi.ReportFromContext(ctx)
	missing, more := report.Missing()
	attrs := []slog.Attr{
		slog.String("kind", a.about.kind), slog.String("query", a.about.expression), slog.String("times", a.about.times),
		slog.String("tenant", a.share.tenant), slog.Duration("duration", d), slog.Duration("queued", queued),
		slog.Int64("series", series), slog.Int64("samples", samples), slog.Int64("bytes", bytes),
		slog.Int("stores", s.stores()), slog.Int("stores_skipped", len(report.Skipped())), slog.Int("stores_missing", len(missing)+more),
		slog.String("remote", a.about.remote), slog.String("user_agent", a.about.userAgent), slog.String("request_id", a.about.requestID),
	}
	if err := context.Cause(ctx); err != nil {
		attrs = append(attrs, slog.String("err", cut(err.Error(), maxShownAgent)))
	}
	s.logger.LogAttrs(ctx, slog.LevelWarn, "slow query", attrs...)
}
