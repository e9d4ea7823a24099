package bucket

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Operations as they appear in the label "operation".
const (
	opList     = "list"
	opGet      = "get"
	opGetRange = "get_range"
	opStat     = "stat"
	opUpload   = "upload"
	opDelete   = "delete"
)

type metrics struct {
	operations *prometheus.CounterVec
	failures   *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	bytes      *prometheus.CounterVec
	lastUpload prometheus.Gauge
}

// newMetrics registers the metrics of a bucket; reg may be nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		operations: f.NewCounterVec(prometheus.CounterOpts{
			Name: "hindsight_objstore_operations_total",
			Help: "Operations on the bucket, each counted once, without its retries.",
		}, []string{"operation"}),
		failures: f.NewCounterVec(prometheus.CounterOpts{
			Name: "hindsight_objstore_operation_failures_total",
			Help: "Operations on the bucket that failed after all tries. A missing object, a condition that does not hold and a cancellation by the caller are no failures.",
		}, []string{"operation"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:                            "hindsight_objstore_operation_duration_seconds",
			Help:                            "Time from the start of a successful operation to its end; for reads, until the body was closed.",
			Buckets:                         []float64{0.001, 0.01, 0.1, 0.3, 0.6, 1, 3, 6, 9, 20, 30, 60, 90, 120},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"operation"}),
		bytes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "hindsight_objstore_transferred_bytes_total",
			Help: "Bytes of object bodies read from or written to the bucket.",
		}, []string{"operation"}),
		lastUpload: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_objstore_last_successful_upload_timestamp_seconds",
			Help: "Unix time of the last successful upload of an object.",
		}),
	}
	for _, op := range []string{opList, opGet, opGetRange, opStat, opUpload, opDelete} {
		m.operations.WithLabelValues(op)
		m.failures.WithLabelValues(op)
	}
	for _, op := range []string{opGet, opGetRange, opUpload} {
		m.bytes.WithLabelValues(op)
	}
	return m
}

func (m *metrics) done(op string, start time.Time, err error) {
	switch {
	case err == nil:
		m.duration.WithLabelValues(op).Observe(time.Since(start).Seconds())
	case errors.Is(err, ErrNotFound) || errors.Is(err, ErrChanged) || errors.Is(err, context.Canceled):
	default:
		m.failures.WithLabelValues(op).Inc()
	}
}

// WithMetrics returns b with every operation counted and timed.
func WithMetrics(b Bucket, reg prometheus.Registerer) Bucket {
	return &measured{next: b, m: newMetrics(reg)}
}

type measured struct {
	next Bucket
	m    *metrics
}

// List keeps an error of the callback apart from one of the bucket.
func (b *measured) List(ctx context.Context, dir string, f func(Object) error) error {
	start := time.Now()
	b.m.operations.WithLabelValues(opList).Inc()
	var ferr error
	err := b.next.List(ctx, dir, func(o Object) error {
		ferr = f(o)
		return ferr
	})
	if ferr != nil {
		return err
	}
	b.m.done(opList, start, err)
	return err
}

func (b *measured) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	start := time.Now()
	b.m.operations.WithLabelValues(opGet).Inc()
	rc, err := b.next.Get(ctx, name)
	return b.body(opGet, start, rc, err)
}

func (b *measured) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	start := time.Now()
	b.m.operations.WithLabelValues(opGetRange).Inc()
	rc, err := b.next.GetRange(ctx, name, off, length)
	return b.body(opGetRange, start, rc, err)
}

func (b *measured) body(op string, start time.Time, rc io.ReadCloser, err error) (io.ReadCloser, error) {
	if err != nil {
		b.m.done(op, start, err)
		return nil, err
	}
	return &measuredBody{rc: rc, m: b.m, op: op, start: start}, nil
}

type measuredBody struct {
	rc     io.ReadCloser
	m      *metrics
	op     string
	start  time.Time
	n      int64
	err    error
	closed bool
}

func (b *measuredBody) Read(p []byte) (int, error) {
	n, err := b.rc.Read(p)
	b.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

func (b *measuredBody) Close() error {
	err := b.rc.Close()
	if !b.closed {
		b.closed = true
		b.m.bytes.WithLabelValues(b.op).Add(float64(b.n))
		b.m.done(b.op, b.start, errors.Join(b.err, err))
	}
	return err
}

func (b *measured) Stat(ctx context.Context, name string) (Object, error) {
	start := time.Now()
	b.m.operations.WithLabelValues(opStat).Inc()
	o, err := b.next.Stat(ctx, name)
	b.m.done(opStat, start, err)
	return o, err
}

func (b *measured) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	start := time.Now()
	b.m.operations.WithLabelValues(opUpload).Inc()
	err := b.next.Upload(ctx, name, r, size)
	b.m.done(opUpload, start, err)
	if err == nil {
		b.m.bytes.WithLabelValues(opUpload).Add(float64(max(size, 0)))
		b.m.lastUpload.SetToCurrentTime()
	}
	return err
}

func (b *measured) Delete(ctx context.Context, name string) error {
	start := time.Now()
	b.m.operations.WithLabelValues(opDelete).Inc()
	err := b.next.Delete(ctx, name)
	b.m.done(opDelete, start, err)
	return err
}

// GetVersion implements Conditional.
func (b *measured) GetVersion(ctx context.Context, name string, limit int64) ([]byte, Version, error) {
	start := time.Now()
	b.m.operations.WithLabelValues(opGet).Inc()
	data, v, err := Conditions(b.next).GetVersion(ctx, name, limit)
	b.m.done(opGet, start, err)
	b.m.bytes.WithLabelValues(opGet).Add(float64(len(data)))
	return data, v, err
}

// PutIf implements Conditional.
func (b *measured) PutIf(ctx context.Context, name string, data []byte, old Version) (Version, error) {
	start := time.Now()
	b.m.operations.WithLabelValues(opUpload).Inc()
	v, err := Conditions(b.next).PutIf(ctx, name, data, old)
	b.m.done(opUpload, start, err)
	if err == nil {
		b.m.bytes.WithLabelValues(opUpload).Add(float64(len(data)))
		b.m.lastUpload.SetToCurrentTime()
	}
	return v, err
}

func (b *measured) Name() string { return b.next.Name() }

func (b *measured) Close() error { return b.next.Close() }
