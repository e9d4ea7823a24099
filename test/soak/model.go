package main

import (
	"fmt"
	"math"
	"strconv"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"
)

// kind says how the samples of a series come about.
type kind int

const (
	gauge     kind = iota // floats, sometimes infinite
	counter               // floats that grow, with resets
	integers              // native histograms of integers
	custom                // native histograms with custom buckets
	fractions             // native histograms of floats
	late                  // floats, up to maxDelay steps out of order
	short                 // floats of series that live for lifeSteps
)

const (
	// maxDelay is the most that a sample is late, in steps.
	maxDelay = 100
	// lifeSteps is the life of a series of kind short.
	lifeSteps = 240
)

// metrics are the names of the metrics, by kind.
func metrics() []string {
	return []string{"soak_gauge", "soak_total", "soak_integers", "soak_custom", "soak_fractions", "soak_late", "soak_short"}
}

// series is one series of a stream. Its samples are functions of their index, so that
// a value that comes back is compared exactly without being remembered.
type series struct {
	kind kind
	id   int
	// seed differs between streams, so that a sample of another stream is a wrong one.
	seed uint64
}

// stream is all series that one client writes: those of a tenant of the ring, or of
// one replica of the HA pair. Sample i of each series is at time base + i * step.
type stream struct {
	name, tenant, replica string
	base, step            int64
	series                []series
}

// newStream returns the series of a tenant, or of a replica of it: n gauges and counters,
// and a third of that of each other kind.
func newStream(tenant, replica string, base, step int64, n int) *stream {
	s := &stream{name: tenant, tenant: tenant, replica: replica, base: base, step: step}
	if replica != "" {
		s.name += "-" + replica
	}
	seed := mix(0, []byte(tenant)...) // replicas have the same series
	for k := range metrics() {
		of := max(1, n/3)
		if kind(k) == gauge || kind(k) == counter {
			of = n
		}
		for id := range of {
			s.series = append(s.series, series{kind: kind(k), id: id, seed: seed})
		}
	}
	return s
}

// mix is FNV-1a over a number and bytes, with a final mixing.
func mix(n uint64, text ...byte) uint64 {
	h := uint64(14695981039346656037)
	for i := range 8 {
		h = (h ^ (n >> (8 * i) & 0xff)) * 1099511628211
	}
	for _, c := range text {
		h = (h ^ uint64(c)) * 1099511628211
	}
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	return h ^ h>>29
}

func (s series) hash(i int) uint64 {
	return mix(s.seed ^ uint64(s.kind)<<56 ^ uint64(s.id)<<40 ^ uint64(i))
}

// value is float sample i.
func (s series) value(i int) float64 {
	switch {
	case s.kind == counter:
		// 3 to 10 more with each step, and a reset about every 700 steps.
		const life = 700
		return float64(7*((i+97*s.id)%life)) + float64(s.hash(i)%4)
	case s.kind == gauge && s.hash(i)%499 == 0:
		return math.Inf(1)
	}
	return float64(int64(s.hash(i)%2_000_001)-1_000_000) / 8
}

// histogram is histogram sample i, as it is sent.
func (s series) histogram(i int, t int64) prompb.Histogram {
	n := uint64((i+31*s.id)%900) + s.seed%7 + 1
	h := prompb.Histogram{
		Count: &prompb.Histogram_CountInt{CountInt: 3 * n}, Sum: float64(n)*1.5 + float64(s.id) + float64(s.seed%1000)/8,
		Schema: 2, ZeroThreshold: 1e-128, ZeroCount: &prompb.Histogram_ZeroCountInt{ZeroCountInt: 0},
		PositiveSpans: []prompb.BucketSpan{{Offset: 0, Length: 2}}, PositiveDeltas: []int64{int64(n), int64(n)},
		Timestamp: t,
	}
	switch s.kind {
	case custom:
		h.Schema, h.ZeroThreshold, h.CustomValues = -53, 0, []float64{0.1, 1, 10}
	case fractions:
		f := float64(n) / 4
		h.Count = &prompb.Histogram_CountFloat{CountFloat: 3 * f}
		h.ZeroCount = &prompb.Histogram_ZeroCountFloat{ZeroCountFloat: 0}
		h.PositiveDeltas, h.PositiveCounts = nil, []float64{f, 2 * f}
	}
	return h
}

// isHistogram says whether the samples of the series are histograms.
func (s series) isHistogram() bool {
	return s.kind == integers || s.kind == custom || s.kind == fractions
}

// floatHistogram is histogram sample i, as it is read.
func (s series) floatHistogram(i int) *histogram.FloatHistogram {
	h := s.histogram(i, 0)
	if s.kind == fractions {
		return h.ToFloatHistogram()
	}
	return h.ToIntHistogram().ToFloat(nil)
}

// delay is how many steps after its time sample i is sent.
func (s series) delay(i int) int {
	if s.kind != late {
		return 0
	}
	return int(s.hash(i) % maxDelay)
}

// due are the indices of the samples that are sent at step n.
func (s series) due(n int) []int {
	if s.kind != late {
		return []int{n}
	}
	var out []int
	for i := max(0, n-maxDelay); i <= n; i++ {
		if i+s.delay(i) == n {
			out = append(out, i)
		}
	}
	return out
}

// labels are the labels of sample i, sorted by name.
func (st *stream) labels(s series, i int) []prompb.Label {
	out := []prompb.Label{{Name: "__name__", Value: metrics()[s.kind]}}
	if s.kind == short {
		out = append(out, prompb.Label{Name: "life", Value: strconv.Itoa(i / lifeSteps)})
	}
	return append(out, prompb.Label{Name: "owner", Value: st.tenant}, prompb.Label{Name: "series", Value: strconv.Itoa(s.id)})
}

// time is the time of sample i.
func (st *stream) time(i int) int64 { return st.base + int64(i)*st.step }

// index is the index of the sample at t.
func (st *stream) index(t int64) (int, error) {
	if t < st.base || (t-st.base)%st.step != 0 {
		return 0, fmt.Errorf("%s has no sample at %d", st.name, t)
	}
	return int((t - st.base) / st.step), nil
}

// batch are the samples of the steps from n up to, not including, end, and their
// places in the ledger.
func (st *stream) batch(n, end int) (out []prompb.TimeSeries, at []place) {
	for which, s := range st.series {
		bySet := map[string]int{}
		for step := n; step < end; step++ {
			for _, i := range s.due(step) {
				ls := st.labels(s, i)
				key := fmt.Sprint(ls)
				k, ok := bySet[key]
				if !ok {
					k = len(out)
					bySet[key] = k
					out = append(out, prompb.TimeSeries{Labels: ls})
				}
				if s.isHistogram() {
					out[k].Histograms = append(out[k].Histograms, s.histogram(i, st.time(i)))
				} else {
					out[k].Samples = append(out[k].Samples, prompb.Sample{Timestamp: st.time(i), Value: s.value(i)})
				}
				at = append(at, place{which, i})
			}
		}
	}
	return out, at
}

// find returns the series with the given labels; lookup reads one label.
func (st *stream) find(lookup func(name string) string) (which int, err error) {
	id, err := strconv.Atoi(lookup("series"))
	if err != nil || lookup("owner") != st.tenant {
		return 0, fmt.Errorf("%s never wrote a series with series=%q owner=%q", st.name, lookup("series"), lookup("owner"))
	}
	for which, s := range st.series {
		if s.id == id && metrics()[s.kind] == lookup("__name__") {
			return which, nil
		}
	}
	return 0, fmt.Errorf("%s never wrote a series %s with series=%q", st.name, lookup("__name__"), lookup("series"))
}
