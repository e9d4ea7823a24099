package remotewrite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
)

// MaxHistogramBuckets bounds the buckets of one native histogram. Prometheus
// itself keeps to a few hundred.
const MaxHistogramBuckets = 1 << 16

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
	fs, f := fields{b: b}, field{}
	for fs.next(&f) {
		if !raw.set(&f) {
			return Histogram{}, malformed(fmt.Sprintf("histogram: field %d", f.number))
		}
		if raw.tooManyElements {
			return Histogram{}, Errorf(Invalid, "a histogram has more than %d buckets or spans", MaxHistogramBuckets)
		}
	}
	if fs.bad {
		return Histogram{}, malformed("histogram")
	}
	return raw.build()
}

// set stores one field; false means that it is malformed.
func (r *rawHistogram) set(f *field) bool {
	switch f.wireType {
	case wireFixed64:
		r.setDouble(f)
	case wireVarint:
		r.setInt(f)
	}
	return r.setList(f)
}

func (r *rawHistogram) setDouble(f *field) {
	v := math.Float64frombits(f.num)
	switch f.number {
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

func (r *rawHistogram) setInt(f *field) {
	switch f.number {
	case 1:
		r.countInt, r.float = f.num, false
	case 4:
		r.schema = int32(zigzag(f.num & math.MaxUint32))
	case 6:
		r.zeroInt = f.num
	case 14:
		r.resetHint = f.num
	case 15:
		r.t = int64(f.num)
	case 17:
		r.st = int64(f.num)
	}
}

func (r *rawHistogram) setList(f *field) (ok bool) {
	switch f.number {
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

func (r *rawHistogram) span(to []histogram.Span, f *field) ([]histogram.Span, bool) {
	if f.wireType != wireBytes {
		return to, false
	}
	var (
		s       histogram.Span
		fs, sub = fields{b: f.data}, field{}
	)
	for fs.next(&sub) {
		switch {
		case sub.number == 1 && sub.wireType == wireVarint:
			s.Offset = int32(zigzag(sub.num & math.MaxUint32))
		case sub.number == 2 && sub.wireType == wireVarint:
			s.Length = uint32(sub.num)
		}
	}
	r.tooManyElements = r.tooManyElements || len(to) >= MaxHistogramBuckets || s.Length > MaxHistogramBuckets
	return append(to, s), !fs.bad
}

func (r *rawHistogram) deltas(to []int64, f *field) ([]int64, bool) {
	if f.wireType == wireVarint {
		r.tooManyElements = r.tooManyElements || len(to) >= MaxHistogramBuckets
		return append(to, zigzag(f.num)), true
	}
	if f.wireType != wireBytes {
		return to, false
	}
	for i := 0; i < len(f.data); {
		v, next := uvarint(f.data, i)
		if next < 0 {
			return to, false
		}
		if len(to) >= MaxHistogramBuckets {
			r.tooManyElements = true
			return to, true
		}
		to, i = append(to, zigzag(v)), next
	}
	return to, true
}

func (r *rawHistogram) doubles(to []float64, f *field) ([]float64, bool) {
	if f.wireType == wireFixed64 {
		r.tooManyElements = r.tooManyElements || len(to) >= MaxHistogramBuckets
		return append(to, math.Float64frombits(f.num)), true
	}
	if f.wireType != wireBytes || len(f.data)%8 != 0 {
		return to, false
	}
	if len(to)+len(f.data)/8 > MaxHistogramBuckets {
		r.tooManyElements = true
		return to, true
	}
	for i := 0; i < len(f.data); i += 8 {
		to = append(to, math.Float64frombits(binary.LittleEndian.Uint64(f.data[i:])))
	}
	return to, true
}

func (r *rawHistogram) build() (Histogram, error) {
	out := Histogram{T: r.t, ST: r.st}
	if r.resetHint > uint64(histogram.GaugeType) {
		r.resetHint = uint64(histogram.UnknownCounterReset)
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

// finerThanStored says that the schema is one of a resolution that chunks cannot
// hold; such a histogram is stored with the finest that they can.
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
