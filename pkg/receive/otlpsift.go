package receive

import (
	"fmt"
	"math"

	"github.com/prometheus/otlptranslator"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// sifter removes the parts of an OTLP request that cannot be stored, before it is
// translated: the translator drops a metric at the first point that it cannot
// translate, without a count. It is used for one request.
type sifter struct {
	metricNames otlptranslator.MetricNamer
	labelNames  otlptranslator.LabelNamer
	checkTime   func(ms int64) (reason.Reason, error)
	// known are the attribute names that were checked.
	known map[string]error

	rejected remotewrite.Rejected
	// points are the data points that were taken out, kept those that were not.
	points, kept int
	zeros        zeroThresholds
}

func newSifter(checkTime func(ms int64) (reason.Reason, error)) *sifter {
	return &sifter{
		metricNames: otlptranslator.MetricNamer{WithMetricSuffixes: true}, labelNames: labelNamer(),
		checkTime: checkTime, known: map[string]error{},
	}
}

// labelNamer makes label names of attributes as Prometheus and Thanos do.
func labelNamer() otlptranslator.LabelNamer {
	//nolint:staticcheck // deprecated, but Prometheus still sets it, and names must be the same
	return otlptranslator.LabelNamer{UnderscoreLabelSanitization: true, PreserveMultipleUnderscores: true}
}

// reject counts data points that are left out.
func (s *sifter) reject(why reason.Reason, points int, err error) {
	kind := remotewrite.Invalid
	if why == reason.TooFarInFuture || why == reason.TooFarInPast {
		kind = remotewrite.Conflict
	}
	s.points += points
	s.rejected.Add(kind, why, max(points, 1), err.Error)
}

// sift changes md in place.
func (s *sifter) sift(md pmetric.Metrics) {
	md.ResourceMetrics().RemoveIf(func(rm pmetric.ResourceMetrics) bool {
		attributes := rm.Resource().Attributes()
		if err := checkMap("resource", attributes); err != nil {
			s.reject(reason.InvalidResource, resourcePoints(rm), err)
			return true
		}
		// They name no series, so that the points need not go with them.
		attributes.RemoveIf(func(name string, _ pcommon.Value) bool {
			err := s.name(name)
			if err != nil {
				s.reject(reason.InvalidResourceAttribute, 0, err)
			}
			return err != nil
		})
		rm.ScopeMetrics().RemoveIf(func(sm pmetric.ScopeMetrics) bool {
			if err := checkMap("scope", sm.Scope().Attributes()); err != nil {
				s.reject(reason.InvalidScope, scopePoints(sm), err)
				return true
			}
			sm.Metrics().RemoveIf(s.metric)
			return false
		})
		return false
	})
}

func resourcePoints(rm pmetric.ResourceMetrics) (n int) {
	for _, sm := range rm.ScopeMetrics().All() {
		n += scopePoints(sm)
	}
	return n
}

func scopePoints(sm pmetric.ScopeMetrics) (n int) {
	for _, m := range sm.Metrics().All() {
		n += metricPoints(m)
	}
	return n
}

func metricPoints(m pmetric.Metric) int {
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		return m.Gauge().DataPoints().Len()
	case pmetric.MetricTypeSum:
		return m.Sum().DataPoints().Len()
	case pmetric.MetricTypeHistogram:
		return m.Histogram().DataPoints().Len()
	case pmetric.MetricTypeExponentialHistogram:
		return m.ExponentialHistogram().DataPoints().Len()
	case pmetric.MetricTypeSummary:
		return m.Summary().DataPoints().Len()
	}
	return 0
}

// metric removes the invalid points of a metric and reports whether it is empty
// then. A metric without points is no error.
func (s *sifter) metric(m pmetric.Metric) (empty bool) {
	n := metricPoints(m)
	if why, err := s.wholeMetric(m); err != nil {
		s.reject(why, max(n, 1), err)
		return true
	}
	before := s.points
	switch m.Type() {
	case pmetric.MetricTypeGauge:
		m.Gauge().DataPoints().RemoveIf(func(p pmetric.NumberDataPoint) bool { return s.number(m, p) })
	case pmetric.MetricTypeSum:
		m.Sum().DataPoints().RemoveIf(func(p pmetric.NumberDataPoint) bool { return s.number(m, p) })
	case pmetric.MetricTypeHistogram:
		m.Histogram().DataPoints().RemoveIf(func(p pmetric.HistogramDataPoint) bool { return s.histogram(m, p) })
	case pmetric.MetricTypeExponentialHistogram:
		m.ExponentialHistogram().DataPoints().RemoveIf(func(p pmetric.ExponentialHistogramDataPoint) bool { return s.exponential(m, p) })
	case pmetric.MetricTypeSummary:
		m.Summary().DataPoints().RemoveIf(func(p pmetric.SummaryDataPoint) bool {
			return s.point(m, p.Attributes(), p.Timestamp(), nil)
		})
	}
	left := n - (s.points - before)
	s.kept += left
	return left == 0
}

// wholeMetric returns the error that all points of a metric have in common.
func (s *sifter) wholeMetric(m pmetric.Metric) (why reason.Reason, err error) {
	if n := len(m.Name()) + len(m.Unit()); n > maxAttributeSize {
		return reason.InvalidMetricName, fmt.Errorf("the name of the metric %.100s has %d bytes, more than %d", m.Name(), n, maxAttributeSize)
	}
	var temporality pmetric.AggregationTemporality
	switch m.Type() {
	case pmetric.MetricTypeGauge, pmetric.MetricTypeSummary:
		temporality = pmetric.AggregationTemporalityCumulative
	case pmetric.MetricTypeSum:
		temporality = m.Sum().AggregationTemporality()
	case pmetric.MetricTypeHistogram:
		temporality = m.Histogram().AggregationTemporality()
	case pmetric.MetricTypeExponentialHistogram:
		temporality = m.ExponentialHistogram().AggregationTemporality()
	default:
		return reason.UnknownMetricType, fmt.Errorf("the metric %.100q has no data of a known type", m.Name())
	}
	if metricPoints(m) > 0 && temporality != pmetric.AggregationTemporalityCumulative {
		return reason.NotCumulative, fmt.Errorf("the metric %.100q has the aggregation temporality %s; only cumulative ones can be stored", m.Name(), temporality)
	}
	if _, err := s.metricNames.Build(prometheusremotewrite.TranslatorMetricFromOtelMetric(m)); err != nil {
		return reason.InvalidMetricName, err
	}
	return "", nil
}

// point checks the parts that points of all types have, and removes exemplars
// without a value. wrong is the error of the other parts. It reports whether the
// point must be removed.
func (s *sifter) point(m pmetric.Metric, attributes pcommon.Map, at pcommon.Timestamp, wrong error) (bad bool) {
	why, err := reason.InvalidDataPoint, wrong
	if err == nil {
		err = checkMap("data point", attributes)
	}
	if err == nil {
		for name := range attributes.All() {
			if err = s.name(name); err != nil {
				break
			}
		}
	}
	if err == nil {
		why, err = s.checkTime(at.AsTime().UnixMilli())
	}
	if err != nil {
		s.reject(why, 1, fmt.Errorf("metric %.100q: %w", m.Name(), err))
	}
	return err != nil
}

// name returns an error when the attribute cannot become a label.
func (s *sifter) name(attribute string) error {
	err, ok := s.known[attribute]
	if !ok {
		_, err = s.labelNames.Build(attribute)
		s.known[attribute] = err
	}
	return err
}

func (s *sifter) number(m pmetric.Metric, p pmetric.NumberDataPoint) bool {
	s.exemplars(m, p.Exemplars())
	return s.point(m, p.Attributes(), p.Timestamp(), nil)
}

func (s *sifter) histogram(m pmetric.Metric, p pmetric.HistogramDataPoint) bool {
	s.exemplars(m, p.Exemplars())
	return s.point(m, p.Attributes(), p.Timestamp(), checkBounds(p))
}

// checkBounds refuses buckets that do not match their bounds. An explicit last
// bound of +Inf, with or without a bucket behind it, is usual with some SDKs.
func checkBounds(p pmetric.HistogramDataPoint) error {
	bounds, counts := p.ExplicitBounds(), p.BucketCounts().Len()
	n := bounds.Len()
	previous := math.Inf(-1)
	for i := range n {
		b := bounds.At(i)
		if math.IsNaN(b) || i > 0 && b <= previous {
			return fmt.Errorf("the bounds of a histogram do not ascend: %v after %v", b, previous)
		}
		previous = b
	}
	switch {
	case counts == 0, counts == n+1, counts == n && math.IsInf(previous, 1):
		return nil
	}
	return fmt.Errorf("a histogram has %d bounds and %d buckets; there must be one bucket more than bounds", n, counts)
}

func (s *sifter) exponential(m pmetric.Metric, p pmetric.ExponentialHistogramDataPoint) bool {
	s.exemplars(m, p.Exemplars())
	bad := s.point(m, p.Attributes(), p.Timestamp(), checkExponential(p))
	if !bad {
		s.zeros.expect(p)
	}
	return bad
}

func checkExponential(p pmetric.ExponentialHistogramDataPoint) error {
	if p.Scale() < histogram.ExponentialSchemaMin {
		return fmt.Errorf("an exponential histogram has the scale %d; the coarsest that can be stored is %d", p.Scale(), histogram.ExponentialSchemaMin)
	}
	if z := p.ZeroThreshold(); math.IsNaN(z) || math.IsInf(z, 0) || z < 0 {
		return fmt.Errorf("an exponential histogram has the zero threshold %v", z)
	}
	for _, b := range []pmetric.ExponentialHistogramDataPointBuckets{p.Positive(), p.Negative()} {
		if end := int64(b.Offset()) + int64(b.BucketCounts().Len()); end >= math.MaxInt32 || b.Offset() == math.MinInt32 {
			return fmt.Errorf("an exponential histogram has buckets from %d to %d, which is out of range", b.Offset(), end)
		}
	}
	return nil
}

// exemplars removes exemplars without a value, for which the translator would drop
// the metric. Their points stay.
func (s *sifter) exemplars(m pmetric.Metric, all pmetric.ExemplarSlice) {
	all.RemoveIf(func(e pmetric.Exemplar) bool {
		bad := e.ValueType() == pmetric.ExemplarValueTypeEmpty
		if bad {
			s.reject(reason.MalformedExemplar, 0, fmt.Errorf("metric %.100q: an exemplar has no value", m.Name()))
		}
		return bad
	})
}

// zeroThresholds gives exponential histograms the zero thresholds of their data
// points, in place of which the translator puts a constant. It appends histograms
// in the order of the points.
type zeroThresholds struct {
	waiting []zeroBucket
}

type zeroBucket struct {
	t         int64
	count     uint64
	threshold float64
}

func (z *zeroThresholds) expect(p pmetric.ExponentialHistogramDataPoint) {
	z.waiting = append(z.waiting, zeroBucket{p.Timestamp().AsTime().UnixMilli(), p.ZeroCount(), p.ZeroThreshold()})
}

// adjust changes the histogram that was translated for the next point. Points for
// which none was are passed over.
func (z *zeroThresholds) adjust(t int64, h *histogram.Histogram) {
	for len(z.waiting) > 0 {
		next := z.waiting[0]
		z.waiting = z.waiting[1:]
		if next.t != t || next.count != h.ZeroCount {
			continue
		}
		if next.threshold > 0 {
			h.ZeroThreshold = next.threshold
		}
		return
	}
}
