package promapi

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/stats"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Work says where the time and the memory of a query went.
type Work struct {
	// Queued is the time in which the query waited for a slot, Reading
	// that in which its evaluation waited for stores, Evaluating the rest until the
	// result was complete.
	Queued, Reading, Evaluating time.Duration
	// Decoding and Functions are sums over all goroutines, of the evaluation series by
	// series: decoding chunks and merging replicas, and the functions of selectors.
	// Sorting is the time in which the result was sorted.
	Decoding, Functions, Sorting time.Duration
	// WaitedForMemory is a sum over all goroutines, too.
	WaitedForMemory time.Duration
	// PeakMemory is the most that the query held of the memory budget, in bytes.
	PeakMemory int64
	// These were read from the stores.
	Series, Chunks, Samples, Bytes int64
}

// execution collects what is known of the evaluation of one request.
type execution struct {
	trace *storeapi.Trace

	mtx       sync.Mutex
	evaluator string
	work      *Work
}

type executionKey struct{}

func executionOf(ctx context.Context) *execution {
	e, _ := ctx.Value(executionKey{}).(*execution)
	return e
}

// withExecution returns a context in which NoteEvaluator and NoteWork keep what they are
// given. A request that asks for all statistics gets a trace too.
func withExecution(ctx context.Context, r *http.Request) context.Context {
	e := &execution{}
	if r.Form.Get("stats") == "all" {
		e.trace = &storeapi.Trace{}
		ctx = storeapi.WithTrace(ctx, e.trace)
	}
	return context.WithValue(ctx, executionKey{}, e)
}

// NoteEvaluator names the evaluator that has answered the query of the request, for
// the statistics of the answer.
func NoteEvaluator(ctx context.Context, name string) {
	if e := executionOf(ctx); e != nil {
		e.mtx.Lock()
		defer e.mtx.Unlock()
		e.evaluator = name
	}
}

// NoteWork keeps the work of the query of the request, for the statistics of the answer.
func NoteWork(ctx context.Context, w Work) {
	if e := executionOf(ctx); e != nil {
		e.mtx.Lock()
		defer e.mtx.Unlock()
		e.work = &w
	}
}

// answerStats are Prometheus's statistics of a query, and its execution here.
type answerStats struct {
	stats.BuiltinStats
	Evaluator string     `json:"evaluator,omitempty"`
	Execution *Execution `json:"execution,omitempty"`
}

// renderStats is the form of the statistics in an answer, nil where the request
// does not ask for them.
func renderStats(ctx context.Context, s *stats.Statistics, param string) stats.QueryStats {
	known := v1.DefaultStatsRenderer(ctx, s, param)
	if known == nil {
		return nil
	}
	out := &answerStats{BuiltinStats: known.Builtin()}
	e := executionOf(ctx)
	if e == nil {
		return out
	}
	evaluator, work := e.noted()
	out.Evaluator = evaluator
	if t := &out.Timings; work != nil && t.InnerEvalTime == 0 {
		// Prometheus's engine selects first and evaluates then; here both overlap.
		t.QueryPreparationTime = min(work.Reading.Seconds(), t.EvalTotalTime)
		t.ResultSortTime = work.Sorting.Seconds()
		t.InnerEvalTime = max(0, t.EvalTotalTime-t.QueryPreparationTime-t.ResultSortTime)
	}
	if e.trace != nil {
		out.Execution = ExecutionOf(ctx, e.trace, work)
	}
	return out
}

// noted returns what was noted; the work is nil if nothing was.
func (e *execution) noted() (evaluator string, work *Work) {
	if e == nil {
		return "", nil
	}
	e.mtx.Lock()
	defer e.mtx.Unlock()
	return e.evaluator, e.work
}

// Execution says how a query was evaluated, in the form of the API.
type Execution struct {
	Evaluator string           `json:"evaluator"`
	Seconds   executionSeconds `json:"seconds"`
	Memory    executionMemory  `json:"memory"`
	Read      executionRead    `json:"read"`
	// Selections are those of the stores, in the order in which they began.
	Selections []selectionJSON `json:"selections"`
}

type executionSeconds struct {
	Queued     float64 `json:"queued"`
	Reading    float64 `json:"reading"`
	Evaluating float64 `json:"evaluating"`
	// Encoding is known where the answer has been printed: in explanations.
	Encoding float64 `json:"encoding,omitempty"`
	// These are parts of the others, summed over all cores.
	DecodingOfAllCores  float64 `json:"decodingOfAllCores"`
	FunctionsOfAllCores float64 `json:"functionsOfAllCores"`
	WaitingForMemory    float64 `json:"waitingForMemory"`
}

type executionMemory struct {
	PeakBytes int64 `json:"peakBytes"`
}

type executionRead struct {
	Series  int64 `json:"series"`
	Chunks  int64 `json:"chunks"`
	Samples int64 `json:"samples"`
	Bytes   int64 `json:"bytes"`
}

type selectionJSON struct {
	Selector string            `json:"selector"`
	MinTime  int64             `json:"mint"`
	MaxTime  int64             `json:"maxt"`
	Stores   []tracedStoreJSON `json:"stores"`
	// More counts the stores beyond the bound of an answer.
	More int `json:"more,omitempty"`
}

type tracedStoreJSON struct {
	Store     string `json:"store"`
	Component string `json:"component"`
	Asked     bool   `json:"asked"`
	// Reason is why the store was not asked.
	Reason reason.Reason `json:"reason,omitempty"`
	// Missing is why the store cannot answer, as known before it was asked.
	Missing reason.Reason `json:"missing,omitempty"`
	// Answer is what the answer cost; absent where the store was not asked.
	Answer *tracedAnswer `json:"answer,omitempty"`
}

// tracedAnswer is what the answer of a store cost; the fields of Blocks and Bucket are
// those that store gateways report.
type tracedAnswer struct {
	Complete bool    `json:"complete"`
	Error    string  `json:"error,omitempty"`
	Series   int64   `json:"series"`
	Chunks   int64   `json:"chunks"`
	Bytes    int64   `json:"bytes"`
	Waited   float64 `json:"waitedSeconds"`
	Seconds  float64 `json:"seconds"`

	Blocks *tracedBlocks `json:"blocks,omitempty"`
	Bucket *tracedBucket `json:"bucket,omitempty"`
}

type tracedBlocks struct {
	Queried          int64 `json:"queried"`
	OtherTimes       int64 `json:"otherTimes"`
	OtherLabels      int64 `json:"otherLabels"`
	OtherResolutions int64 `json:"otherResolutions"`
}

type tracedBucket struct {
	Requests     int64 `json:"requests"`
	Bytes        int64 `json:"bytes"`
	PagesTouched int64 `json:"pagesTouched"`
	PagesCached  int64 `json:"pagesCached"`
}

// ExecutionOf is the form of a trace and of the work of the query of ctx, which may be
// nil. A tenant that sees its own data only does not see the stores that have none of it.
func ExecutionOf(ctx context.Context, t *storeapi.Trace, w *Work) *Execution {
	out := &Execution{Selections: []selectionJSON{}}
	out.Evaluator, _ = executionOf(ctx).noted()
	if w != nil {
		out.Seconds = executionSeconds{
			Queued: w.Queued.Seconds(), Reading: w.Reading.Seconds(), Evaluating: w.Evaluating.Seconds(),
			DecodingOfAllCores: w.Decoding.Seconds(), FunctionsOfAllCores: w.Functions.Seconds(),
			WaitingForMemory: w.WaitedForMemory.Seconds(),
		}
		out.Memory.PeakBytes = w.PeakMemory
		out.Read = executionRead{Series: w.Series, Chunks: w.Chunks, Samples: w.Samples, Bytes: w.Bytes}
	}
	p, _ := queryopts.FromContext(ctx)
	for _, s := range t.Selects() {
		j := selectionJSON{
			Selector: selectorText(s.Matchers), MinTime: clampTime(s.MinTime), MaxTime: clampTime(s.MaxTime),
			Stores: []tracedStoreJSON{}, More: s.More,
		}
		for i := range s.Stores {
			if st := &s.Stores[i]; p.Enforced == nil || st.Pruned == "" {
				j.Stores = append(j.Stores, tracedStore(st, t.Dry))
			}
		}
		out.Selections = append(out.Selections, j)
	}
	return out
}

// tracedStore is the form of one store. A dry trace has no costs.
func tracedStore(s *storeapi.TracedStore, dry bool) tracedStoreJSON {
	out := tracedStoreJSON{Store: s.Name, Component: cmp.Or(s.Component, "unknown"), Asked: s.Pruned == "" && !dry, Reason: s.Pruned, Missing: s.Missing}
	if !out.Asked {
		return out
	}
	out.Answer = &tracedAnswer{
		Complete: s.Ended, Error: s.Failure, Series: s.Series, Chunks: s.Chunks, Bytes: s.Bytes,
		Waited: s.Waited.Seconds(), Seconds: s.Duration.Seconds(),
	}
	st := &s.Stats
	if b := (tracedBlocks{st.BlocksQueried, st.BlocksOtherTimes, st.BlocksOtherLabels, st.BlocksOtherResolutions}); b != (tracedBlocks{}) {
		out.Answer.Blocks = &b
		out.Answer.Bucket = &tracedBucket{
			Requests: st.PostingsFetches + st.SeriesFetches + st.ChunksFetches, Bytes: st.BytesFetched,
			PagesTouched: st.PagesTouched, PagesCached: max(0, st.PagesTouched-st.PagesFetched),
		}
	}
	return out
}

// selectorText is the selector with the matchers, in PromQL.
func selectorText(ms []*labels.Matcher) string {
	s := &parser.VectorSelector{LabelMatchers: ms}
	return strings.TrimSpace(s.String())
}
