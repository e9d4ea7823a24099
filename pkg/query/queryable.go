package query

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/query/promapi"
	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// QueryableConfig says how a Queryable reads.
type QueryableConfig struct {
	// Defaults are used by requests whose context has no options.
	Defaults queryopts.Options
	// RingLabels are replica labels in which copies of one stream differ, as the
	// nodes of a hash ring store them. They are removed whenever replicas are
	// merged, whichever replica labels a request names.
	RingLabels []string
	// Dedup is the function that merges replicas; empty means coverage.
	Dedup dedup.Func
	// MaxConcurrentSelects bounds the selectors of one query that are read at
	// the same time; below 1 means 1.
	MaxConcurrentSelects int
	// ExemplarsAbort fails requests for exemplars when a store is missing.
	ExemplarsAbort bool
	Logger         *slog.Logger
}

// Queryable is Prometheus's storage interface over a Store, with replicas
// merged. It may be used concurrently.
type Queryable struct {
	store storeapi.Store
	cfg   QueryableConfig
}

// NewQueryable returns a Queryable over store.
func NewQueryable(store storeapi.Store, cfg QueryableConfig) *Queryable {
	if cfg.Dedup == "" {
		cfg.Dedup = dedup.FuncCoverage
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.MaxConcurrentSelects = max(1, cfg.MaxConcurrentSelects)
	return &Queryable{store: store, cfg: cfg}
}

// Querier implements storage.Queryable.
func (q *Queryable) Querier(mint, maxt int64) (storage.Querier, error) {
	return &querier{
		store: q.store, cfg: q.cfg, mint: mint, maxt: maxt,
		gate: make(chan struct{}, q.cfg.MaxConcurrentSelects),
	}, nil
}

// ChunkQuerier implements storage.ChunkQueryable. The merged samples are
// encoded again.
func (q *Queryable) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	samples, err := q.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return chunkQuerier{samples}, nil
}

// querier serves one query. Everything that Select returned stays valid until
// Close.
type querier struct {
	store      storeapi.Store
	cfg        QueryableConfig
	mint, maxt int64
	gate       chan struct{}

	mtx    sync.Mutex
	open   []*selection
	closed bool
}

// options are those of the request, or the defaults. Their replica labels include
// those of the ring.
func (c *QueryableConfig) options(ctx context.Context) queryopts.Options {
	p, ok := queryopts.FromContext(ctx)
	if !ok {
		p = c.Defaults
	}
	p.ReplicaLabels = queryopts.Names(slices.Concat(p.ReplicaLabels, c.RingLabels))
	return p
}

// Select implements storage.Querier. The stream starts at once, in the
// background, so that the selectors of a query are read side by side.
func (q *querier) Select(ctx context.Context, _ bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	queryCtx := ctx
	ctx, cancel := context.WithCancel(ctx)
	mint, maxt := q.mint, q.maxt
	if hints != nil {
		// The times of the querier are those of all selectors together. Samples before the first
		// time of this one would change where the merge of its replicas begins.
		mint, maxt = hints.Start, hints.End
	}
	s, r, view := q.cfg.selection(ctx, mint, maxt, hints, ms)
	s.cancel = cancel
	q.mtx.Lock()
	defer q.mtx.Unlock()
	if q.closed {
		cancel()
		return storage.ErrSeriesSet(errors.New("select on a closed querier"))
	}
	q.open = append(q.open, s)
	go s.read(ctx, q.gate, view, func() storeapi.SeriesSet { return q.store.Select(ctx, r) })
	return &seriesSet{selection: s, ctx: queryCtx, i: -1}
}

// selection returns the selection of one selector, not yet opened, the request to the
// stores, and how their answer becomes samples of the times from mint to maxt.
func (c *QueryableConfig) selection(ctx context.Context, mint, maxt int64, hints *storage.SelectHints, ms []*labels.Matcher) (*selection, *storeapi.Request, *view) {
	p := c.options(ctx)
	r := selectRequest(p, mint, maxt, hints, ms)
	view := &view{mint: mint, maxt: maxt, aggrs: r.Aggregates}
	reading := readingOf(ctx)
	reading.plan(ms).apply(r, view, reading, hints)
	s := &selection{
		done: make(chan struct{}), report: promapi.ReportFromContext(ctx),
		reading: reading, account: accountOf(ctx), steps: steps(hints), partial: p.PartialResponse,
	}
	if s.account != nil {
		r.Account = s.account
	}
	if p.Dedup && len(p.ReplicaLabels) > 0 {
		view.dedup = c.Dedup
		if view.dedup == dedup.FuncCoverage && r.MinTime > math.MinInt64+view.lead() {
			r.MinTime -= view.lead()
		}
		s.group.drop, s.group.ring = p.ReplicaLabels, c.RingLabels
	}
	if hints != nil {
		view.mode = dedup.ModeOf(hints.Func)
		s.group.limit = hints.Limit
	}
	return s, r, view
}

// steps is the number of steps at which the engine evaluates a selector.
func steps(hints *storage.SelectHints) int64 {
	if hints == nil || hints.Step <= 0 || hints.End < hints.Start {
		return 1
	}
	return (hints.End-hints.Start)/hints.Step + 1
}

// LabelNames implements storage.LabelQuerier.
func (q *querier) LabelNames(ctx context.Context, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	names, ws, err := q.store.LabelNames(ctx, q.labelsRequest(ctx, hints, ms))
	if err == nil {
		err = accountOf(ctx).values(ctx, names)
	}
	return names, annotate(ws, promapi.ReportFromContext(ctx)), listed(ctx, err)
}

// LabelValues implements storage.LabelQuerier.
func (q *querier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	values, ws, err := q.store.LabelValues(ctx, name, q.labelsRequest(ctx, hints, ms))
	if err == nil {
		err = accountOf(ctx).values(ctx, values)
	}
	return values, annotate(ws, promapi.ReportFromContext(ctx)), listed(ctx, err)
}

// labelsRequest is the request for names or values, of which a store returns no more
// than one answer may have.
func (q *querier) labelsRequest(ctx context.Context, hints *storage.LabelHints, ms []*labels.Matcher) *storeapi.Request {
	r := labelsRequest(q.cfg.options(ctx), q.mint, q.maxt, hints, ms)
	r.Limit = accountOf(ctx).mostEntries(r.Limit)
	return r
}

// listed is the error of a list, which has ended when the request was ended. The
// answer that follows is only printed.
func listed(ctx context.Context, err error) error {
	if err == nil {
		accountOf(ctx).enter(stageEncoding)
		return nil
	}
	if own := ownCause(ctx); own != nil {
		return own
	}
	return err
}

// Close ends all streams, waits for them, and frees what they returned.
func (q *querier) Close() error {
	q.mtx.Lock()
	open := q.open
	q.open, q.closed = nil, true
	q.mtx.Unlock()
	var errs []error
	for _, s := range open {
		s.cancel()
	}
	for _, s := range open {
		errs = append(errs, s.close())
	}
	return errors.Join(errs...)
}

// annotate makes the warnings of an answer part of it.
func annotate(ws storeapi.Warnings, report *promapi.Report) annotations.Annotations {
	var as annotations.Annotations
	for _, w := range ws {
		report.Warn(w)
		as.Add(errors.New(w.Text))
	}
	return as
}

// chunkQuerier encodes the merged samples of a querier.
type chunkQuerier struct{ storage.Querier }

func (q chunkQuerier) Select(ctx context.Context, sortSeries bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.ChunkSeriesSet {
	// Its reader gets bytes before a chunk that cannot be decoded is seen.
	return storage.NewSeriesSetToChunkSet(q.Querier.Select(withCare(ctx), sortSeries, hints, ms...))
}
