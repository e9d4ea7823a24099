package remotewrite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
)

// maxHistogramBuckets bounds the buckets of one native histogram. Prometheus
// itself keeps to a few hundred.
const maxHistogramBuckets = 1 << 16

// Histogram is one native histogram sample: exactly one of Int and Float is
// set. ST is its start timestamp, 0 when unknown.
type Histogram struct {
	T, ST int64
	Int   *histogram.Histogram
	Float *histogram.FloatHistogram
}

// rawHistogram is the message as it is, before it is known which kind it is.
type rawHistogram struct {
	t, st                 int64
	float                 bool
	countInt, zeroInt     uint64
	countFloat, zeroFloat float64
	sum, zeroThreshold    float64
	schema                int32
	resetHint             uint64
	negSpans, posSpans    []histogram.Span
	negDeltas, posDeltas  []int64
	negCounts, posCounts  []float64
	customValues          []float64
	tooManyElements       bool
}

// ParseHistogram reads a Histogram message and checks it. Nothing in the
// result points into b.
func ParseHistogram(b []byte) (Histogram, error) {
	var raw rawHistogram
	fs, f := protoscan.Fields{B: b}, protoscan.Field{}
	for fs.Next(&f) {
		if !raw.set(&f) {
			return Histogram{}, malformed(fmt.Sprintf("histogram: field %d", f.Number()))
		}
		if raw.tooManyElements {
			return Histogram{}, Errorf(Invalid, "a histogram has more than %d buckets or spans", maxHistogramBuckets)
		}
	}
	if fs.Err() != nil {
		return Histogram{}, malformed("histogram")
	}
	return raw.build()
}

// set stores one field; false means that it is malformed.
func (r *rawHistogram) set(f *protoscan.Field) bool {
	switch f.Type() {
	case protoscan.Fixed64:
		r.setDouble(f)
	case protoscan.Varint:
		r.setInt(f)
	}
	return r.setList(f)
}

func (r *rawHistogram) setDouble(f *protoscan.Field) {
	v := math.Float64frombits(f.Num)
	switch f.Number() {
	case 2:
		r.countFloat, r.float = v, true
	case 3:
		r.sum = v
	case 5:
		r.zeroThreshold = v
	case 7:
		r.zeroFloat = v
	}
}

func (r *rawHistogram) setInt(f *protoscan.Field) {
	switch f.Number() {
	case 1:
		r.countInt, r.float = f.Num, false
	case 4:
		r.schema = int32(protoscan.Zigzag(f.Num & math.MaxUint32))
	case 6:
		r.zeroInt = f.Num
	case 14:
		r.resetHint = f.Num
	case 15:
		r.t = int64(f.Num)
	case 17:
		r.st = int64(f.Num)
	}
}

func (r *rawHistogram) setList(f *protoscan.Field) (ok bool) {
	switch f.Number() {
	case 8:
		r.negSpans, ok = r.span(r.negSpans, f)
	case 9:
		r.negDeltas, ok = r.deltas(r.negDeltas, f)
	case 10:
		r.negCounts, ok = r.doubles(r.negCounts, f)
	case 11:
		r.posSpans, ok = r.span(r.posSpans, f)
	case 12:
		r.posDeltas, ok = r.deltas(r.posDeltas, f)
	case 13:
		r.posCounts, ok = r.doubles(r.posCounts, f)
	case 16:
		r.customValues, ok = r.doubles(r.customValues, f)
	default:
		return true
	}
	return ok
}

func (r *rawHistogram) span(to []histogram.Span, f *protoscan.Field) ([]histogram.Span, bool) {
	if f.Type() != protoscan.Bytes {
		return to, false
	}
	var (
		s       histogram.Span
		fs, sub = protoscan.Fields{B: f.Data}, protoscan.Field{}
	)
	for fs.Next(&sub) {
		switch sub.Tag {
		case 1<<3 | protoscan.Varint:
			s.Offset = int32(protoscan.Zigzag(sub.Num & math.MaxUint32))
		case 2<<3 | protoscan.Varint:
			s.Length = uint32(sub.Num)
		}
	}
	r.tooManyElements = r.tooManyElements || len(to) >= maxHistogramBuckets || s.Length > maxHistogramBuckets
	return append(to, s), fs.Err() == nil
}

func (r *rawHistogram) deltas(to []int64, f *protoscan.Field) ([]int64, bool) {
	if f.Type() == protoscan.Varint {
		r.tooManyElements = r.tooManyElements || len(to) >= maxHistogramBuckets
		return append(to, protoscan.Zigzag(f.Num)), true
	}
	if f.Type() != protoscan.Bytes {
		return to, false
	}
	for i := 0; i < len(f.Data); {
		v, next := protoscan.Uvarint(f.Data, i)
		if next < 0 {
			return to, false
		}
		if len(to) >= maxHistogramBuckets {
			r.tooManyElements = true
			return to, true
		}
		to, i = append(to, protoscan.Zigzag(v)), next
	}
	return to, true
}

func (r *rawHistogram) doubles(to []float64, f *protoscan.Field) ([]float64, bool) {
	if f.Type() == protoscan.Fixed64 {
		r.tooManyElements = r.tooManyElements || len(to) >= maxHistogramBuckets
		return append(to, math.Float64frombits(f.Num)), true
	}
	if f.Type() != protoscan.Bytes || len(f.Data)%8 != 0 {
		return to, false
	}
	if len(to)+len(f.Data)/8 > maxHistogramBuckets {
		r.tooManyElements = true
		return to, true
	}
	for i := 0; i < len(f.Data); i += 8 {
		to = append(to, math.Float64frombits(binary.LittleEndian.Uint64(f.Data[i:])))
	}
	return to, true
}

// build makes the histogram of the decoded fields and validates it. The result
// shares its slices with r. An unknown reset hint becomes UnknownCounterReset, and a
// schema finer than chunks can hold is reduced; any other fault is an error of kind
// Invalid.
func (r *rawHistogram) build() (Histogram, error) {
	out := Histogram{T: r.t, ST: r.st}
	if r.resetHint > uint64(histogram.GaugeType) {
		r.resetHint = uint64(histogram.UnknownCounterReset)
	}
	// Histograms with a threshold that is not a number can never be added.
	if z := r.zeroThreshold; math.IsNaN(z) || math.IsInf(z, 0) || z < 0 {
		return out, Errorf(Invalid, "invalid native histogram: the zero threshold is %v", z)
	}
	// The sums are compared before anything walks over spans.
	if err := r.checkSpans(); err != nil {
		return out, err
	}
	var err error
	if r.float {
		out.Float = &histogram.FloatHistogram{
			CounterResetHint: histogram.CounterResetHint(r.resetHint), Schema: r.schema,
			ZeroThreshold: r.zeroThreshold, ZeroCount: r.zeroFloat, Count: r.countFloat, Sum: r.sum,
			PositiveSpans: r.posSpans, NegativeSpans: r.negSpans,
			PositiveBuckets: r.posCounts, NegativeBuckets: r.negCounts, CustomValues: r.customValues,
		}
		if finerThanStored(r.schema) {
			err = out.Float.ReduceResolution(histogram.ExponentialSchemaMax)
		}
		err = errors.Join(err, out.Float.Validate())
	} else {
		out.Int = &histogram.Histogram{
			CounterResetHint: histogram.CounterResetHint(r.resetHint), Schema: r.schema,
			ZeroThreshold: r.zeroThreshold, ZeroCount: r.zeroInt, Count: r.countInt, Sum: r.sum,
			PositiveSpans: r.posSpans, NegativeSpans: r.negSpans,
			PositiveBuckets: r.posDeltas, NegativeBuckets: r.negDeltas, CustomValues: r.customValues,
		}
		if finerThanStored(r.schema) {
			err = out.Int.ReduceResolution(histogram.ExponentialSchemaMax)
		}
		err = errors.Join(err, out.Int.Validate())
	}
	if err != nil {
		return out, Errorf(Invalid, "invalid native histogram: %w", err)
	}
	return out, nil
}

// finerThanStored reports whether chunks cannot hold the resolution of the schema.
// Such a histogram is stored with the finest one that they can hold.
func finerThanStored(schema int32) bool {
	return schema > histogram.ExponentialSchemaMax && histogram.IsExponentialSchemaReserved(schema)
}

func (r *rawHistogram) checkSpans() error {
	pos, neg := len(r.posDeltas), len(r.negDeltas)
	if r.float {
		pos, neg = len(r.posCounts), len(r.negCounts)
	}
	if total(r.posSpans) != uint64(pos) || total(r.negSpans) != uint64(neg) {
		return Errorf(Invalid, "invalid native histogram: the spans name %d positive and %d negative buckets, there are %d and %d",
			total(r.posSpans), total(r.negSpans), pos, neg)
	}
	for _, spans := range [][]histogram.Span{r.posSpans, r.negSpans} {
		if end := lastBucket(spans); end > math.MaxInt32 {
			return Errorf(Invalid, "invalid native histogram: the spans end at the bucket %d, the last possible one is %d", end, math.MaxInt32)
		}
	}
	return nil
}

// lastBucket is the highest index of a bucket, which 32 bits may not hold.
func lastBucket(spans []histogram.Span) (end int64) {
	for _, s := range spans {
		end += int64(s.Offset) + int64(s.Length)
	}
	return end - 1
}

func total(spans []histogram.Span) (n uint64) {
	for _, s := range spans {
		n += uint64(s.Length)
	}
	return n
}
