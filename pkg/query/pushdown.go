package query

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/stats"

	"github.com/hindsight-io/hindsight/pkg/query/distribute"
	"github.com/hindsight-io/hindsight/pkg/query/endpoint"
	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// modeDistributed is the value of --query.mode that pushes parts of queries down.
const modeDistributed = "distributed"

// maxPushdownBytes bounds the expressions that are planned: planning visits the tree below
// each node, which takes time in proportion to size and depth and cannot be cancelled.
const maxPushdownBytes = 8 << 10

// Outcomes of a query in distributed mode, as the label of the metric says.
const (
	outcomePushed   = "pushed"
	outcomeLocal    = "local"
	outcomeReturned = "returned"
)

// pushdown lets queriers below evaluate parts of queries, so that results travel instead
// of samples. It may be used concurrently.
type pushdown struct {
	set       *endpoint.Set
	queryable *Queryable
	parser    parser.Parser
	cfg       *Config
	filter    *atomic.Pointer[[]*relabel.Config]
	// trusted is the announcement of a store as far as it can be trusted.
	trusted func(storeapi.Info, string) storeapi.Info
	// leastLeft is the time that a request must have left for a quarter of it to be
	// reserved for an evaluation here.
	leastLeft time.Duration
	local     func() []distribute.Leaf
	queries   *prometheus.CounterVec
}

// newPushdown returns the push-down of a querier, which owns its set, queryable and
// filter.
func newPushdown(q *Query, p parser.Parser) *pushdown {
	d := &pushdown{set: q.set, queryable: q.queryable, parser: p, cfg: &q.cfg, filter: &q.filter, trusted: q.fanout.Trusted, leastLeft: 10 * time.Second, local: q.localLeaves}
	d.queries = promauto.With(q.deps.Registerer).NewCounterVec(prometheus.CounterOpts{
		Name: "hindsight_query_distributed_queries_total",
		Help: "Queries while gateways or queriers below evaluate parts: pushed, at least a part was evaluated below; local, none was; returned, a store below refused or failed and all was evaluated here.",
	}, []string{"outcome"})
	for _, o := range []string{outcomePushed, outcomeLocal, outcomeReturned} {
		d.queries.WithLabelValues(o)
	}
	return d
}

// localLeaves are the stores of the same process.
func (q *Query) localLeaves() []distribute.Leaf {
	var out []distribute.Leaf
	for i, s := range q.deps.LocalStores {
		info := s.Info()
		out = append(out, distribute.Leaf{
			Name: fmt.Sprintf("local/%s-%d", component(info.Component), i), Cannot: "it is a store of this process",
			LabelSets: info.LabelSets, MinTime: info.MinTime, MaxTime: info.MaxTime,
		})
	}
	return out
}

// settings are those that decide results beside the fields of a request. A querier
// evaluates a part only with the same.
func (c *Config) settings() string {
	return fmt.Sprintf("2 lookback=%s dynamic=%t subquery=%s dedup=%s ring=%s features=%s instant=%s",
		c.LookbackDelta, c.DynamicLookback, c.SubqueryStep.Duration(), c.DedupFunc,
		strings.Join(queryopts.Names(c.RingLabels.Values()), ","), strings.Join(queryopts.Names(c.Features.Values()), ","), c.InstantResolution.Duration())
}

// askedQuery is one query before it is evaluated.
type askedQuery struct {
	text       string
	start, end time.Time
	// interval is 0 for an instant query.
	interval time.Duration
	// lookback is that of the request, 0 for none.
	lookback time.Duration
}

// plannedQuery is a query of which parts are pushed down.
type plannedQuery struct {
	distribute.Plan
	// names are the metric names that stand for the parts in text, which is what is left
	// to evaluate here.
	names []string
	text  string
}

// plan decides which parts of a query are pushed down.
func (d *pushdown) plan(ctx context.Context, a askedQuery) (*plannedQuery, error) {
	expr, err := d.parser.ParseExpr(a.text)
	if err != nil {
		return nil, err
	}
	o := d.queryable.cfg.options(ctx)
	if o.Enforced != nil {
		parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
			if s, ok := n.(*parser.VectorSelector); ok {
				// The name is among the matchers; it would be printed twice.
				s.LabelMatchers = enforce(o.Enforced, s.LabelMatchers)
			}
			return nil
		})
	}
	in := distribute.Input{
		Expr: expr, Start: a.start.UnixMilli(), End: a.end.UnixMilli(), Step: a.interval.Milliseconds(),
		Lookback: max(a.lookback, d.cfg.LookbackDelta, defaultLookback).Milliseconds(), Leaves: d.leaves(), Whole: d.whole(ctx, &o, a),
	}
	if o.Dedup {
		in.ReplicaLabels = o.ReplicaLabels
	}
	out, prefix := &plannedQuery{}, unusedName(expr)
	out.Plan = distribute.Make(in, func(part int) parser.Expr {
		name := prefix + strconv.Itoa(part)
		out.names = append(out.names, name)
		return &parser.VectorSelector{Name: name, LabelMatchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, name)}}
	})
	d.place(a.text, out)
	return out, nil
}

// unusedName returns the begin of a metric name that no selector of the expression has.
func unusedName(expr parser.Expr) string {
	prefix := "part"
	for {
		used := false
		parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
			if s, ok := n.(*parser.VectorSelector); ok {
				used = used || slices.ContainsFunc(s.LabelMatchers, func(m *labels.Matcher) bool { return strings.HasPrefix(m.Value, prefix) })
			}
			return nil
		})
		if !used {
			return prefix
		}
		prefix += "_"
	}
}

// place sets the texts of the parts and of what is left so that everything in them has the
// place that it has in the query, with spaces around: annotations name places. Where such
// a text does not mean the same, as when matchers of the tenant were added, that of the
// expression is used.
func (d *pushdown) place(query string, p *plannedQuery) {
	left, placed := []byte(query), true
	for i := range p.Parts {
		part := &p.Parts[i]
		from, to := int(part.Position.Start), int(part.Position.End)
		if from < 0 || to > len(query) || to-from < len(p.names[i]) {
			placed = false
			continue
		}
		text := []byte(query)[:to]
		blank(text[:from])
		if d.means(string(text), part.Query) {
			part.Query = string(text)
		}
		blank(left[from:to])
		copy(left[from:], p.names[i])
	}
	if p.text = p.Expr.String(); placed && d.means(string(left), p.text) {
		p.text = string(left)
	}
}

// blank replaces all bytes but those that end lines.
func blank(b []byte) {
	for i, c := range b {
		if c != '\n' {
			b[i] = ' '
		}
	}
}

// means reports whether a text is that of the expression with a printed form.
func (d *pushdown) means(text, printed string) bool {
	e, err := d.parser.ParseExpr(text)
	return err == nil && e.String() == printed
}

// whole is why a query is not distributed at all, or empty.
func (d *pushdown) whole(ctx context.Context, o *queryopts.Options, a askedQuery) string {
	switch {
	case len(a.text) > maxPushdownBytes:
		return fmt.Sprintf("the expression is longer than %d bytes", maxPushdownBytes)
	case d.cfg.Mode != modeDistributed && !d.cfg.GatewayEvaluation:
		return "the querier evaluates all queries itself (--query.mode, --query.gateway-evaluation)"
	case d.cfg.Mode != modeDistributed && storeapi.TraceFromContext(ctx) != nil:
		return "the request asks what each store costs (stats=all, analyze)"
	case len(o.StoreMatchers) > 0:
		return "the request chooses stores (storeMatch[])"
	case o.Shard != nil:
		return "the request asks for a shard"
	case !d.cfg.SelectorLabels.Labels().IsEmpty():
		return "the querier has labels of its own (--selector-label)"
	case len(*d.filter.Load()) > 0:
		return "the querier filters its stores (--selector.relabel-config)"
	}
	return ""
}

// cannot is why an endpoint evaluates no parts, or empty. Gateways and queriers with other
// settings would give other results.
func (d *pushdown) cannot(e *endpoint.Endpoint) string {
	info := e.Info()
	switch own := d.cfg.settings(); {
	case info.Evaluates == "" && d.cfg.Mode == modeDistributed:
		return e.Evaluates()
	case info.Evaluates == "" && info.Component == "query":
		return "queriers evaluate no parts (--query.mode)"
	case info.Evaluates == "":
		return "it evaluates no queries"
	case !d.cfg.GatewayEvaluation:
		return "gateways evaluate no parts (--query.gateway-evaluation)"
	case e.Reachable() != nil:
		return "it does not answer"
	case info.Evaluates != own:
		return fmt.Sprintf("it evaluates with other settings: %s, not %s", info.Evaluates, own)
	}
	return ""
}

// leaves are all stores of the querier.
func (d *pushdown) leaves() []distribute.Leaf {
	out := d.local()
	for _, e := range d.set.Endpoints() {
		info := d.trusted(e.Info(), e.Name())
		if info.NoStore {
			continue
		}
		l := distribute.Leaf{
			Name: e.Name(), Cannot: d.cannot(e), Unmerged: info.Evaluates != "", LabelSets: info.LabelSets, MinTime: info.MinTime, MaxTime: info.MaxTime,
		}
		if l.Cannot == "" && info.Evaluates == "" && len(info.TSDBs) > 0 {
			// The label sets of a querier may have labels that no series has.
			l.LabelSets = nil
			for _, t := range info.TSDBs {
				l.LabelSets = append(l.LabelSets, t.Labels)
			}
			slices.SortFunc(l.LabelSets, labels.Compare)
			l.LabelSets = slices.CompactFunc(l.LabelSets, labels.Equal)
		}
		out = append(out, l)
	}
	return out
}

// engineOpen opens a query of the engine that is evaluated here.
type engineOpen func(q storage.Queryable, text string) (promql.Query, error)

// on reports whether any store may evaluate parts.
func (d *pushdown) on() bool {
	return d.cfg.Mode == modeDistributed || d.cfg.GatewayEvaluation && slices.ContainsFunc(d.set.Endpoints(), func(e *endpoint.Endpoint) bool {
		return e.Info().Evaluates != ""
	})
}

// open opens a query of which parts are pushed down, or returns nil when none is.
func (d *pushdown) open(ctx context.Context, q storage.Queryable, a askedQuery, open engineOpen) promql.Query {
	if !d.on() {
		return nil
	}
	plan, err := d.plan(ctx, a)
	if err != nil || len(plan.Parts) == 0 {
		d.queries.WithLabelValues(outcomeLocal).Inc()
		return nil // the engine reports errors of the expression
	}
	out := &distributedQuery{pushdown: d, local: func() (promql.Query, error) { return open(q, a.text) }}
	parts := &partQueryable{Queryable: q, pushdown: d, asked: a, names: plan.names, parts: plan.Parts, refused: &out.refused, below: &out.below}
	_, out.whole = plan.Expr.(*parser.VectorSelector)
	first, err := open(parts, plan.text)
	if err != nil {
		d.queries.WithLabelValues(outcomeLocal).Inc()
		return nil
	}
	out.Query = first
	return out
}

// distributedQuery is a query of which parts are pushed down, until a querier refuses
// its part.
type distributedQuery struct {
	pushdown *pushdown
	local    func() (promql.Query, error)
	// refused says that a querier cannot evaluate its part as this one would.
	refused atomic.Bool
	below   belowWork
	// whole says that nothing but one part is left of the query.
	whole bool

	mtx sync.Mutex
	promql.Query
}

// Exec implements promql.Query.
func (q *distributedQuery) Exec(ctx context.Context) *promql.Result {
	res := q.current().Exec(ctx)
	if !q.whole && res.Err == nil && ofResolutions(res.Warnings) {
		// Downsampled data makes a query begin anew with all its selectors, but only where
		// they are evaluated together.
		q.refused.Store(true)
	}
	if !q.refused.Load() || ctx.Err() != nil {
		q.pushdown.queries.WithLabelValues(outcomePushed).Inc()
		return res
	}
	q.pushdown.queries.WithLabelValues(outcomeReturned).Inc()
	next, err := q.local()
	if err != nil {
		return &promql.Result{Err: err}
	}
	q.mtx.Lock()
	q.Query.Close()
	q.Query = next
	q.mtx.Unlock()
	q.below.samples.Store(0)
	q.below.points.Store(0)
	if a := accountOf(ctx); a != nil {
		a.restart() // what was read in vain does not count
	}
	return next.Exec(ctx)
}

func (q *distributedQuery) current() promql.Query {
	q.mtx.Lock()
	defer q.mtx.Unlock()
	return q.Query
}

// Cancel implements promql.Query.
func (q *distributedQuery) Cancel() { q.current().Cancel() }

// Close implements promql.Query.
func (q *distributedQuery) Close() { q.current().Close() }

// Stats implements promql.Query. The samples are those that were looked at here and below;
// results of parts are not samples.
func (q *distributedQuery) Stats() *stats.Statistics {
	st := q.current().Stats()
	if st == nil || st.Samples == nil || q.below.samples.Load() == 0 {
		return st
	}
	out, samples := *st, *st.Samples
	samples.TotalSamples = max(0, samples.TotalSamples-q.below.points.Load()) + q.below.samples.Load()
	out.Samples = &samples
	return &out
}
