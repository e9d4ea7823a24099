package promapi

import (
	"context"
	"sync/atomic"

	"github.com/prometheus/prometheus/util/stats"
	v1 "github.com/prometheus/prometheus/web/api/v1"
)

type evaluatorKey struct{}

// withEvaluator returns a context in which NoteEvaluator keeps a name.
func withEvaluator(ctx context.Context) context.Context {
	return context.WithValue(ctx, evaluatorKey{}, &atomic.Value{})
}

// NoteEvaluator names the evaluator that has answered the query of the request, for
// the statistics of the answer.
func NoteEvaluator(ctx context.Context, name string) {
	if v, ok := ctx.Value(evaluatorKey{}).(*atomic.Value); ok {
		v.Store(name)
	}
}

// answerStats are Prometheus's statistics of a query, and its evaluator.
type answerStats struct {
	stats.BuiltinStats
	Evaluator string `json:"evaluator,omitempty"`
}

// renderStats is the form of the statistics in an answer, nil where the request
// does not ask for them.
func renderStats(ctx context.Context, s *stats.Statistics, param string) stats.QueryStats {
	known := v1.DefaultStatsRenderer(ctx, s, param)
	if known == nil {
		return nil
	}
	out := &answerStats{BuiltinStats: known.Builtin()}
	if v, ok := ctx.Value(evaluatorKey{}).(*atomic.Value); ok {
		out.Evaluator, _ = v.Load().(string)
	}
	return out
}
