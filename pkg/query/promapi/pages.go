package promapi

import (
	"context"
	"net/http"
	"time"

	jsoniter "github.com/json-iterator/go"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/jsonutil"
	v1 "github.com/prometheus/prometheus/web/api/v1"
)

// pageSize is the size of the pieces of an answer, in bytes: less than a millisecond
// of work.
const pageSize = 32 << 10

// pages prints an answer of the Prometheus API byte for byte as Prometheus does, and
// sends it in pieces. Between two pieces it looks at the context. After an error it
// sends nothing more, and its methods have nothing left to do.
type pages struct {
	*jsoniter.Stream
	ctx context.Context
	w   *printing
	// sent says that a piece has been sent.
	sent bool
	err  error
	// stop ends the watch that unblocks a piece that the client does not read.
	stop func() bool
}

func newPages(ctx context.Context, w *printing) *pages {
	return &pages{Stream: jsoniter.NewStream(jsonForm(), nil, pageSize+pageSize/4), ctx: ctx, w: w}
}

// close ends the watch of the context.
func (p *pages) close() {
	if p.stop != nil {
		p.stop()
	}
}

// turn sends what has been printed when it fills a page, and reports whether there
// is no error.
func (p *pages) turn() bool {
	if p.Buffered() >= pageSize {
		p.send()
	}
	return p.err == nil
}

// end sends the rest.
func (p *pages) end() {
	p.send()
}

// send sends what has been printed, unless the request has ended.
func (p *pages) send() {
	if p.err == nil {
		p.err = p.Error
	}
	if p.err == nil && p.ctx.Err() != nil {
		p.err = context.Cause(p.ctx)
	}
	if p.err != nil {
		return
	}
	if !p.sent {
		p.sent = true
		p.stop = context.AfterFunc(p.ctx, breaker(p.ctx))
	}
	_, p.err = p.w.send(p.Buffer())
	p.Reset(nil)
}

// each prints the elements of an array.
func each[E any](p *pages, all []E, one func(*E)) {
	p.WriteArrayStart()
	for i := range all {
		if i > 0 {
			p.WriteMore()
		}
		one(&all[i])
		if !p.turn() {
			return
		}
	}
	p.WriteArrayEnd()
}

// response prints a whole answer.
func (p *pages) response(r *v1.Response) {
	p.WriteObjectStart()
	p.WriteObjectField("status")
	p.WriteVal(r.Status)
	p.next("data")
	switch d := r.Data.(type) {
	case *v1.QueryData:
		p.query(d)
	case []labels.Labels:
		list(p, d)
	case []string:
		list(p, d)
	case []exemplar.QueryResult:
		list(p, d)
	}
	if len(r.Warnings) > 0 {
		p.next("warnings")
		p.WriteVal(r.Warnings)
	}
	if len(r.Infos) > 0 {
		p.next("infos")
		p.WriteVal(r.Infos)
	}
	p.WriteObjectEnd()
}

// next begins a field that is not the first of its object.
func (p *pages) next(field string) {
	p.WriteMore()
	p.WriteObjectField(field)
}

// list prints a list whose elements are small.
func list[E any](p *pages, all []E) {
	if all == nil {
		p.WriteNil()
		return
	}
	each(p, all, func(e *E) { p.WriteVal(*e) })
}

// query prints the result of a query.
func (p *pages) query(d *v1.QueryData) {
	p.WriteObjectStart()
	p.WriteObjectField("resultType")
	p.WriteVal(d.ResultType)
	p.next("result")
	p.value(d.Result)
	if d.Stats != nil {
		p.next("stats")
		p.WriteVal(d.Stats)
	}
	if d.Cost != nil {
		p.next("cost")
		p.WriteVal(d.Cost)
	}
	p.WriteObjectEnd()
}

func (p *pages) value(v parser.Value) {
	switch v := v.(type) {
	case promql.Matrix:
		each(p, v, p.series)
	case promql.Vector:
		each(p, v, p.sample)
	default:
		p.WriteVal(v)
	}
}

func (p *pages) series(s *promql.Series) {
	p.WriteObjectStart()
	p.WriteObjectField("metric")
	p.WriteVal(s.Metric)
	if len(s.Floats) > 0 {
		p.next("values")
		each(p, s.Floats, func(f *promql.FPoint) { p.point(f.T, f.F, nil) })
	}
	if len(s.Histograms) > 0 {
		p.next("histograms")
		each(p, s.Histograms, func(h *promql.HPoint) { p.point(h.T, 0, h.H) })
	}
	p.WriteObjectEnd()
}

func (p *pages) sample(s *promql.Sample) {
	p.WriteObjectStart()
	p.WriteObjectField("metric")
	p.WriteVal(s.Metric)
	if s.H == nil {
		p.next("value")
	} else {
		p.next("histogram")
	}
	p.point(s.T, s.F, s.H)
	p.WriteObjectEnd()
}

// point prints a time, and a histogram or else a float.
func (p *pages) point(t int64, f float64, h *histogram.FloatHistogram) {
	p.WriteArrayStart()
	jsonutil.MarshalTimestamp(t, p.Stream)
	p.WriteMore()
	if h == nil {
		jsonutil.MarshalFloat(f, p.Stream)
	} else {
		jsonutil.MarshalHistogram(h, p.Stream)
	}
	p.WriteArrayEnd()
}

type connectionKey struct{}

// withConnection keeps the connection of the request for breaker.
func withConnection(ctx context.Context, w http.ResponseWriter) context.Context {
	return context.WithValue(ctx, connectionKey{}, http.NewResponseController(w))
}

// breaker returns a function that ends a write to the client that blocks. The answer
// cannot become whole after it.
func breaker(ctx context.Context) func() {
	c, _ := ctx.Value(connectionKey{}).(*http.ResponseController)
	return func() {
		if c != nil {
			// A connection without deadlines is not one that blocks.
			_ = c.SetWriteDeadline(time.Unix(1, 0))
		}
	}
}
