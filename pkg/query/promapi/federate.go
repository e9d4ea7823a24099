package promapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/requestid"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// FederateConfig bounds requests to /federate.
type FederateConfig struct {
	// Lookback is how old the newest sample of a series may be.
	Lookback time.Duration
	// MaxSeries is the largest number of series of one answer; 0 means no
	// bound.
	MaxSeries int
}

var errTooManySeries = errorid.Sentinel(errorid.LimitFederate, "too many series")

// federate returns the newest sample of each matching series, replicas merged.
// The scraping server stores the answer, so it fails when a store is missing,
// unless the request has partial_response=true.
func (a *API) federate(w http.ResponseWriter, r *http.Request) {
	if len(r.Form["match[]"]) == 0 {
		a.federateError(w, http.StatusBadRequest, reason.FederateInvalid, errors.New("no match[] parameter provided"))
		return
	}
	matchers, err := a.cfg.Parser.ParseMetricSelectors(r.Form["match[]"])
	if err != nil {
		a.federateError(w, http.StatusBadRequest, reason.FederateInvalid, err)
		return
	}
	vec, err := a.newest(r, matchers)
	switch {
	case errors.Is(err, errTooManySeries):
		a.federateError(w, http.StatusUnprocessableEntity, reason.FederateLimit, err)
		return
	case err != nil:
		a.federateError(w, a.federateCode(err), reason.Storage, err)
		return
	}
	a.metrics.federateSeries.Observe(float64(len(vec)))
	format := expfmt.NegotiateAccept(r.Header, federateFormats()...)
	a.exposition(w, r, families(vec, format), format)
}

// federateFormats are those that Prometheus offers here. OpenMetrics is not among
// them: it cannot express a federated histogram.
func federateFormats() []expfmt.Format {
	return []expfmt.Format{
		expfmt.NewFormat(expfmt.TypeProtoDelim), expfmt.NewFormat(expfmt.TypeProtoText),
		expfmt.NewFormat(expfmt.TypeProtoCompact), expfmt.NewFormat(expfmt.TypeTextPlain),
	}
}

// federateCode is the status of a request that read nothing: a limit that it
// exceeds will not go away.
func (a *API) federateCode(err error) int {
	if a.cfg.ErrorCode != nil {
		if code := a.cfg.ErrorCode(err); code != 0 {
			return code
		}
	}
	return http.StatusServiceUnavailable
}

// exposition writes the families. A series that cannot be written is left out
// and named as missing, so that it does not cost the others.
func (a *API) exposition(w http.ResponseWriter, r *http.Request, all []*dto.MetricFamily, format expfmt.Format) {
	// Read before the first byte is sent: the header names the missing stores.
	check := expfmt.NewEncoder(untilDone{r.Context(), io.Discard}, format)
	for _, f := range all {
		err := check.Encode(f)
		if ended := context.Cause(r.Context()); ended != nil {
			a.federateError(w, a.federateCode(ended), reason.Storage, fmt.Errorf("print the series: %w", ended))
			return
		}
		if err == nil {
			continue
		}
		whole := len(f.Metric)
		f.Metric = slices.DeleteFunc(f.Metric, func(m *dto.Metric) bool {
			one := &dto.MetricFamily{Name: f.Name, Type: f.Type, Metric: []*dto.Metric{m}}
			return check.Encode(one) != nil
		})
		a.metrics.federateErrors.WithLabelValues(reason.FederateEncode.String()).Inc()
		storeapi.ReportFromContext(r.Context()).Miss(storeapi.Missing{
			Store: "metric " + f.GetName(), Reason: reason.FederateEncode, Text: "series that cannot be written",
		})
		a.cfg.Logger.Warn("federated series cannot be encoded", "metric", f.GetName(), "series", whole-len(f.Metric))
	}
	w.Header().Set("Content-Type", string(format))
	defer context.AfterFunc(r.Context(), breaker(r.Context()))()
	enc := expfmt.NewEncoder(untilDone{r.Context(), w}, format)
	for _, f := range all {
		if len(f.Metric) == 0 {
			continue
		}
		if err := enc.Encode(f); err != nil {
			a.metrics.federateErrors.WithLabelValues(reason.FederateSend.String()).Inc()
			// The status has been sent; only a broken connection tells the
			// client that the answer is not whole.
			panic(http.ErrAbortHandler)
		}
	}
	if c, ok := enc.(expfmt.Closer); ok {
		// An error means that the client has gone.
		_ = c.Close()
	}
}

// untilDone writes to w until the context ends.
type untilDone struct {
	ctx context.Context
	w   io.Writer
}

// Write implements io.Writer. The encoders write some kilobytes at a time.
func (u untilDone) Write(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.w.Write(b)
}

// federateID returns the id of the error of a request that failed for the reason.
func federateID(why reason.Reason, err error) errorid.ID {
	if id := idOfCause(err); id != "" {
		return id
	}
	if id := why.ErrorID(); id != "" {
		return id
	}
	return errorid.StoreFailed
}

func (a *API) federateError(w http.ResponseWriter, code int, why reason.Reason, err error) {
	a.metrics.federateErrors.WithLabelValues(why.String()).Inc()
	errorid.Answer(w, code, federateID(why, err), requestid.Text(w.Header(), code, err.Error()))
}

// newest returns the newest sample of each matching series that is not older
// than the lookback, sorted by name and labels.
func (a *API) newest(r *http.Request, matchers [][]*labels.Matcher) (promql.Vector, error) {
	lookback := a.cfg.Federate.Lookback.Milliseconds()
	maxt := a.cfg.Now().UnixMilli()
	// A sample that is exactly as old as the lookback is too old, as for an
	// instant query.
	mint := maxt - lookback + 1
	q, err := a.cfg.Queryable.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	// The series have been read already, so an error of closing does not matter.
	defer func() { _ = q.Close() }()

	hints := &storage.SelectHints{Start: mint, End: maxt}
	if a.cfg.Federate.MaxSeries > 0 {
		hints.Limit = a.cfg.Federate.MaxSeries + 1
	}
	sets := make([]storage.SeriesSet, 0, len(matchers))
	for _, ms := range matchers {
		sets = append(sets, q.Select(r.Context(), true, hints, ms...))
	}
	set := storage.NewMergeSeriesSet(sets, 0, storage.ChainedSeriesMerge)
	var vec promql.Vector
	var it chunkenc.Iterator
	for n := 1; set.Next(); n++ {
		if a.cfg.Federate.MaxSeries > 0 && n > a.cfg.Federate.MaxSeries {
			return nil, fmt.Errorf("%w: the selectors match more than %d; choose fewer, or federate aggregates", errTooManySeries, a.cfg.Federate.MaxSeries)
		}
		if ended := context.Cause(r.Context()); ended != nil {
			return nil, fmt.Errorf("read the series: %w", ended)
		}
		s := set.At()
		it = s.Iterator(it)
		sample, ok, err := last(it)
		if err != nil {
			return nil, fmt.Errorf("read series %s: %w", s.Labels(), err)
		}
		if ok {
			sample.Metric = s.Labels()
			vec = append(vec, sample)
		}
	}
	if err := set.Err(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(vec, func(x, y promql.Sample) int {
		return cmp.Or(strings.Compare(x.Metric.Get(model.MetricNameLabel), y.Metric.Get(model.MetricNameLabel)), labels.Compare(x.Metric, y.Metric))
	})
	return vec, nil
}

// last returns the last sample. A series that ends in a stale marker has none.
func last(it chunkenc.Iterator) (promql.Sample, bool, error) {
	var s promql.Sample
	found := false
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		found = true
		if typ == chunkenc.ValFloat {
			s.T, s.F = it.At()
			s.H = nil
			continue
		}
		s.T, s.H = it.AtFloatHistogram(nil)
	}
	if err := it.Err(); err != nil {
		return s, false, err
	}
	if !found || (s.H == nil && value.IsStaleNaN(s.F)) || (s.H != nil && value.IsStaleNaN(s.H.Sum)) {
		return s, false, nil
	}
	return s, true, nil
}

// families groups samples that are sorted by name. Native histograms exist in
// protobuf only. A metric that has floats and histograms, or two kinds of
// histograms, becomes two families of one name: no exposition by the book, but
// what Prometheus writes and reads in that case.
func families(vec promql.Vector, format expfmt.Format) []*dto.MetricFamily {
	native := slices.Contains([]expfmt.FormatType{expfmt.TypeProtoDelim, expfmt.TypeProtoText, expfmt.TypeProtoCompact}, format.FormatType())
	var out []*dto.MetricFamily
	var cur *dto.MetricFamily
	for _, s := range vec {
		name := s.Metric.Get(model.MetricNameLabel)
		if name == "" || (s.H != nil && !native && !s.H.UsesCustomBuckets()) {
			continue
		}
		typ := familyType(s)
		if cur == nil || cur.GetName() != name || cur.GetType() != typ {
			cur = &dto.MetricFamily{Name: &name, Type: &typ}
			out = append(out, cur)
		}
		cur.Metric = append(cur.Metric, metric(s))
	}
	return out
}

func familyType(s promql.Sample) dto.MetricType {
	switch {
	case s.H == nil:
		return dto.MetricType_UNTYPED
	case s.H.CounterResetHint == histogram.GaugeType:
		return dto.MetricType_GAUGE_HISTOGRAM
	}
	return dto.MetricType_HISTOGRAM
}

// metric returns a sample as a metric of the exposition format, without the metric
// name and labels with empty values. A float becomes an untyped metric, since
// /federate does not know the type; a histogram becomes a classic one if its buckets
// are custom, else a native one.
func metric(s promql.Sample) *dto.Metric {
	t := s.T
	m := &dto.Metric{TimestampMs: &t}
	hasInstance := false
	s.Metric.Range(func(l labels.Label) {
		if l.Name == model.MetricNameLabel || l.Value == "" {
			return
		}
		hasInstance = hasInstance || l.Name == "instance"
		name, val := l.Name, l.Value
		m.Label = append(m.Label, &dto.LabelPair{Name: &name, Value: &val})
	})
	if !hasInstance {
		// An empty instance keeps the scraper from adding its own.
		name, val := "instance", ""
		m.Label = append(m.Label, &dto.LabelPair{Name: &name, Value: &val})
	}
	switch {
	case s.H == nil:
		f := s.F
		m.Untyped = &dto.Untyped{Value: &f}
	case s.H.UsesCustomBuckets():
		m.Histogram = classicHistogram(s.H)
	default:
		m.Histogram = nativeHistogram(s.H)
	}
	return m
}
