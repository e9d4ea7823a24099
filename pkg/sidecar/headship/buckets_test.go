package headship_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// discard counts what is uploaded and keeps only its size.
type discard struct {
	bucket.Bucket
	bytes, objects int64
	last           int64
}

func (d *discard) Upload(_ context.Context, _ string, r io.Reader, size int64) error {
	n, err := io.Copy(io.Discard, r)
	d.bytes += n
	d.objects++
	d.last = size
	return err
}

func (d *discard) Stat(_ context.Context, name string) (bucket.Object, error) {
	return bucket.Object{Name: name, Size: d.last}, nil
}

// aged gives objects below a prefix another time.
type aged struct {
	bucket.Bucket
	prefix string
	at     time.Time
}

func (a *aged) List(ctx context.Context, dir string, f func(bucket.Object) error) error {
	return a.Bucket.List(ctx, dir, func(o bucket.Object) error {
		if strings.HasPrefix(o.Name, a.prefix) {
			o.LastModified = a.at
		}
		return f(o)
	})
}

func bytesReader(b []byte) io.Reader { return bytes.NewReader(b) }

// logSample writes one sample of a series to a log.
func logSample(t *testing.T, w *wlog.WL, ts int64) {
	var enc record.Encoder
	require.NoError(t, w.Log(
		enc.Series([]record.RefSeries{{Ref: 1, Labels: labels.FromStrings("a", "b")}}, nil),
		enc.Samples([]record.RefSample{{Ref: 1, T: ts, V: 1}}, nil),
	))
}
