package probe

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/model/histogram"
)

// Kind is one of the sorts of series.
type Kind string

// The kinds of series. Their values are names of metrics.
const (
	// Gauge has any floats, special ones included.
	Gauge Kind = "hindsight_probe_data_gauge"
	// Counter ascends and is reset every resetSteps steps. It has the exemplars.
	Counter Kind = "hindsight_probe_data_counter_total"
	// Histogram is a native histogram that ascends and is reset like Counter.
	Histogram Kind = "hindsight_probe_data_histogram"
	// Late is a gauge of which each fourth sample arrives after newer ones.
	Late Kind = "hindsight_probe_data_late"
)

// The labels of a series besides its name. External labels may join them in answers.
const (
	labelProbe    = "probe"
	labelInterval = "interval"
	labelProtocol = "protocol"
	labelSeries   = "series"
)

// resetSteps is the number of steps between two resets of a counter. specialSteps is the
// number of steps of a gauge of which, on average, one has a special float.
const (
	resetSteps   = 40
	specialSteps = 16
)

// Config is what the labels of all series hold.
type Config struct {
	// Name tells probes apart that write to the same tenant.
	Name string
	// Interval is the time between two samples of a series. Samples have the timestamps
	// that are multiples of it.
	Interval time.Duration
	// Protocols are the names of the protocols; each has series of its own.
	Protocols []string
	// PerKind is the number of series of each kind and protocol.
	PerKind int
	// LateSteps is by how many steps samples of Late are delayed; 0 leaves the kind out.
	LateSteps int64
}

// Series is one series.
type Series struct {
	Kind     Kind
	Protocol string
	// Labels has all labels, the name included.
	Labels map[string]string
	key    string
	seed   uint64
}

// Set is all series of a probe.
type Set struct {
	cfg    Config
	series []Series
	byKey  map[string]int
}

// NewSet returns the series of a configuration, in a fixed order.
func NewSet(c Config) *Set {
	s := &Set{cfg: c, byKey: map[string]int{}}
	kinds := []Kind{Gauge, Counter, Histogram}
	if c.LateSteps > 0 {
		kinds = append(kinds, Late)
	}
	for _, p := range c.Protocols {
		for _, k := range kinds {
			for i := range c.PerKind {
				one := Series{Kind: k, Protocol: p, Labels: map[string]string{
					"__name__": string(k), labelProbe: c.Name, labelInterval: c.Interval.String(),
					labelProtocol: p, labelSeries: strconv.Itoa(i),
				}}
				one.key = keyOf(one.Labels)
				one.seed = xxhash.Sum64String(one.key)
				s.byKey[one.key] = len(s.series)
				s.series = append(s.series, one)
			}
		}
	}
	return s
}

// keyOf identifies a series by the labels that the probe gave it; others are ignored.
func keyOf(labels map[string]string) string {
	var b strings.Builder
	for _, name := range []string{"__name__", labelProbe, labelInterval, labelProtocol, labelSeries} {
		fmt.Fprintf(&b, "%s=%q ", name, labels[name])
	}
	return b.String()
}

// Selector selects the series of all kinds and protocols.
func (s *Set) Selector() string {
	return fmt.Sprintf(`{__name__=~%q,%s=%q,%s=%q}`, "hindsight_probe_data_.+", labelProbe, s.cfg.Name, labelInterval, s.cfg.Interval.String())
}

// Protocols returns the names of the protocols.
func (s *Set) Protocols() []string { return s.cfg.Protocols }

// Series returns the series with an index.
func (s *Set) Series(i int) Series { return s.series[i] }

// Step returns the step of a time: the last one that is not after it.
func (s *Set) Step(t time.Time) int64 { return t.UnixMilli() / s.cfg.Interval.Milliseconds() }

// Time returns the timestamp of a step, in Unix milliseconds.
func (s *Set) Time(step int64) int64 { return step * s.cfg.Interval.Milliseconds() }

// Sample is a series, by index, at a step.
type Sample struct {
	Series int
	Step   int64
}

// Due returns the samples that are written at a step over a protocol. A sample of Late
// that is delayed is due LateSteps later than its own step.
func (s *Set) Due(step int64, protocol string) (out []Sample) {
	for i, one := range s.series {
		if one.Protocol != protocol {
			continue
		}
		if one.Kind != Late {
			out = append(out, Sample{Series: i, Step: step})
			continue
		}
		if delayed := step - s.cfg.LateSteps; isDelayed(delayed) {
			out = append(out, Sample{Series: i, Step: delayed})
		}
		if !isDelayed(step) {
			out = append(out, Sample{Series: i, Step: step})
		}
	}
	return out
}

// isDelayed says whether the sample of Late at a step arrives late.
func isDelayed(step int64) bool { return step%4 == 1 }

// mix returns a hash of the series and a number.
func (s Series) mix(n int64) uint64 {
	var b [16]byte
	for i := range 8 {
		b[i], b[8+i] = byte(s.seed>>(8*i)), byte(uint64(n)>>(8*i))
	}
	return xxhash.Sum64(b[:])
}

// Float returns the float of a series at a step. A histogram has none.
func (s Series) Float(step int64) float64 {
	h := s.mix(step)
	switch s.Kind {
	case Counter:
		return float64(s.count(step))
	case Gauge:
		if h%specialSteps == 0 {
			// Minus zero is missing: Prometheus's encoder of remote write drops the sign.
			special := [...]float64{math.Inf(1), math.Inf(-1), math.NaN(), 0, math.SmallestNonzeroFloat64, math.MaxFloat64}
			return special[h/specialSteps%uint64(len(special))]
		}
	}
	// 53 bits of the hash around zero: each bit of the mantissa takes part.
	return float64(int64(h>>11)-1<<52) / 1024
}

// count ascends by an amount that differs by step, and begins again at each reset.
func (s Series) count(step int64) uint64 {
	in := step % resetSteps
	sum := uint64(0)
	for i := step - in; i <= step; i++ {
		sum += 1 + s.mix(i)%1000
	}
	return sum
}

// Histogram returns the native histogram of a series at a step.
func (s Series) Histogram(step int64) *histogram.Histogram {
	n := s.count(step)
	// Each count of a bucket is a monotonic function of n, and so are zero count and sum.
	positive := []uint64{n / 2, n / 3, n / 5}
	negative := []uint64{n / 7}
	zero := n / 4
	h := &histogram.Histogram{
		Schema: 1, ZeroThreshold: 0x1p-128, ZeroCount: zero, Count: zero, Sum: float64(n) / 8,
		PositiveSpans: []histogram.Span{{Offset: -1, Length: 2}, {Offset: 3, Length: 1}},
		NegativeSpans: []histogram.Span{{Offset: 2, Length: 1}},
	}
	last := int64(0)
	for _, c := range positive {
		h.PositiveBuckets = append(h.PositiveBuckets, int64(c)-last)
		last = int64(c)
		h.Count += c
	}
	h.NegativeBuckets = []int64{int64(negative[0])}
	h.Count += negative[0]
	return h
}

// text returns the value of a series at a step, in the form of FloatText or
// HistogramText.
func (s Series) text(step int64) string {
	if s.Kind != Histogram {
		return FloatText(s.Float(step))
	}
	f := s.Histogram(step).ToFloat(nil)
	var buckets []Bucket
	for it := f.AllBucketIterator(); it.Next(); {
		if b := it.At(); b.Count != 0 {
			buckets = append(buckets, Bucket{Lower: b.Lower, Upper: b.Upper, Count: b.Count})
		}
	}
	return HistogramText(f.Count, f.Sum, buckets)
}

// FloatText returns a float as text; equal texts are equal floats, and all NaNs are equal.
func FloatText(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// Bucket is a bucket of a native histogram, as the API of Prometheus gives it.
type Bucket struct{ Lower, Upper, Count float64 }

// HistogramText returns a native histogram as text. Empty buckets are left out.
func HistogramText(count, sum float64, buckets []Bucket) string {
	var b strings.Builder
	fmt.Fprintf(&b, "{count:%s sum:%s", FloatText(count), FloatText(sum))
	for _, one := range buckets {
		fmt.Fprintf(&b, " [%s,%s]:%s", FloatText(one.Lower), FloatText(one.Upper), FloatText(one.Count))
	}
	return b.String() + "}"
}

// Exemplar returns the trace id and the value of the exemplar of a counter at a step.
func (s Series) Exemplar(step int64) (traceID string, value float64) {
	return fmt.Sprintf("%016x%016x", s.seed, s.mix(step)), float64(s.mix(step) % 1000)
}

// String returns the series in the notation of PromQL, with the labels that tell it apart.
func (s Series) String() string {
	return fmt.Sprintf(`%s{%s=%q,%s=%q}`, s.Kind, labelProtocol, s.Protocol, labelSeries, s.Labels[labelSeries])
}
