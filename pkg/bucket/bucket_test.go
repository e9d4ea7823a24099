package bucket_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
)

func TestMemory(t *testing.T) {
	buckettest.Run(t, func(*testing.T) bucket.Bucket { return bucket.NewMemory() })
}

func TestDecorators_KeepTheContract(t *testing.T) {
	prefix := func(b bucket.Bucket) bucket.Bucket { return bucket.Prefix(b, "some/where") }
	retry := func(b bucket.Bucket) bucket.Bucket { return bucket.Retry(b, bucket.DefaultRetry(), nil) }
	measure := func(b bucket.Bucket) bucket.Bucket { return bucket.WithMetrics(b, nil) }
	for name, decorate := range map[string]func(bucket.Bucket) bucket.Bucket{
		"prefix":  prefix,
		"retry":   retry,
		"metrics": measure,
		"faulty":  func(b bucket.Bucket) bucket.Bucket { return buckettest.NewFaulty(b, nil) },
		"all":     func(b bucket.Bucket) bucket.Bucket { return measure(retry(prefix(b))) },
	} {
		t.Run(name, func(t *testing.T) {
			buckettest.Run(t, func(*testing.T) bucket.Bucket { return decorate(bucket.NewMemory()) })
			buckettest.RunConditional(t, func(*testing.T) bucket.Bucket { return decorate(bucket.NewMemory()) })
			buckettest.RunConditionalReads(t, func(*testing.T) bucket.Bucket { return decorate(bucket.NewMemory()) })
		})
	}
}

// TestRetry_HidesTemporaryErrors runs the whole suite on a bucket of which
// every second call fails and every third body is cut.
func TestRetry_HidesTemporaryErrors(t *testing.T) {
	cfg := bucket.RetryConfig{MinBackoff: time.Microsecond, MaxBackoff: time.Microsecond, MaxTries: 50, Deadline: time.Hour}
	buckettest.Run(t, func(*testing.T) bucket.Bucket {
		f := buckettest.NewFaulty(bucket.NewMemory(), func(op buckettest.Op) buckettest.Fault {
			switch {
			case op.Name == "stream": // its reader cannot seek
			case op.N%2 == 1:
				return buckettest.Fault{Err: buckettest.ErrInjected}
			case op.Kind == "get_range" && op.N%3 == 0:
				return buckettest.Fault{CutAt: 1}
			}
			return buckettest.Fault{}
		})
		return bucket.Retry(f, cfg, nil)
	})
}

func TestRetry_StopsAfterTriesAndDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := buckettest.NewFaulty(bucket.NewMemory(), func(buckettest.Op) buckettest.Fault {
			return buckettest.Fault{Err: buckettest.ErrInjected}
		})
		cfg := bucket.RetryConfig{MinBackoff: time.Second, MaxBackoff: 8 * time.Second, MaxTries: 4, Deadline: time.Hour}
		start := time.Now()
		_, err := bucket.Retry(f, cfg, nil).Stat(t.Context(), "x")
		require.ErrorIs(t, err, buckettest.ErrInjected)
		require.ErrorContains(t, err, "after 4 tries")
		require.Equal(t, 4, f.Count("stat"))
		require.GreaterOrEqual(t, time.Since(start), 3500*time.Millisecond)
		require.LessOrEqual(t, time.Since(start), 7*time.Second)

		cfg.MaxTries, cfg.Deadline = 1000, time.Minute
		start = time.Now()
		require.Error(t, bucket.Retry(f, cfg, nil).Delete(t.Context(), "x"))
		require.LessOrEqual(t, time.Since(start), time.Minute)

		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start = time.Now()
		require.Error(t, bucket.Retry(f, cfg, nil).Delete(ctx, "x"))
		require.LessOrEqual(t, time.Since(start), 10*time.Second)
	})
}

func TestRetry_DoesNotRepeatPermanentErrors(t *testing.T) {
	for _, perm := range []error{bucket.ErrAccessDenied, bucket.ErrNotFound, bucket.ErrNoBucket, bucket.ErrPermanent} {
		f := buckettest.NewFaulty(bucket.NewMemory(), func(buckettest.Op) buckettest.Fault {
			return buckettest.Fault{Err: perm}
		})
		b := bucket.Retry(f, bucket.DefaultRetry(), nil)
		_, err := b.Get(t.Context(), "x")
		require.ErrorIs(t, err, perm)
		require.ErrorIs(t, b.Upload(t.Context(), "x", strings.NewReader(""), 0), perm)
		require.Len(t, f.Calls(false), 2)
	}
}

// TestRetry_DoesNotRepeatUnseekableUpload checks that a reader that cannot seek is sent once
// only.
func TestRetry_DoesNotRepeatUnseekableUpload(t *testing.T) {
	f := buckettest.NewFaulty(bucket.NewMemory(), func(op buckettest.Op) buckettest.Fault {
		return buckettest.Fault{Err: buckettest.ErrInjected, AfterEffect: true}
	})
	cfg := bucket.RetryConfig{MinBackoff: 1, MaxBackoff: 1, MaxTries: 3, Deadline: time.Hour}
	b := bucket.Retry(f, cfg, nil)
	require.Error(t, b.Upload(t.Context(), "x", struct{ io.Reader }{strings.NewReader("abc")}, 3))
	require.Equal(t, 1, f.Count("upload"))

	r := strings.NewReader("skipped,sent")
	_, err := r.Seek(8, io.SeekStart)
	require.NoError(t, err)
	require.Error(t, b.Upload(t.Context(), "y", r, 4))
	require.Equal(t, 4, f.Count("upload"))
	got, err := bucket.ReadAll(t.Context(), f.Bucket, "y", 10)
	require.NoError(t, err)
	require.Equal(t, "sent", string(got))
}

func TestReadAll_ReadsBrokenBodyAgain(t *testing.T) {
	mem := bucket.NewMemory()
	require.NoError(t, mem.Upload(t.Context(), "x", strings.NewReader("0123456789"), 10))
	broken := 2
	f := buckettest.NewFaulty(mem, func(op buckettest.Op) buckettest.Fault {
		if op.N <= broken {
			return buckettest.Fault{CutAt: 4}
		}
		return buckettest.Fault{}
	})
	got, err := bucket.ReadAll(t.Context(), f, "x", 10)
	require.NoError(t, err)
	require.Equal(t, "0123456789", string(got))
	broken = 100
	_, err = bucket.ReadAll(t.Context(), f, "x", 10)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, 6, f.Count("get"))
}

func TestExactReader(t *testing.T) {
	read := func(content string, want int64) (string, error) {
		r := bucket.ExactReader(t.Context(), io.NopCloser(strings.NewReader(content)), "x", want)
		b, err := io.ReadAll(r)
		return string(b), err
	}
	got, err := read("abc", 3)
	require.NoError(t, err)
	require.Equal(t, "abc", got)
	_, err = read("ab", 3)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	_, err = read("abcd", 3)
	require.ErrorIs(t, err, bucket.ErrLength)
	_, err = read("a", 0)
	require.ErrorIs(t, err, bucket.ErrLength)
	got, err = read("anything", -1)
	require.NoError(t, err)
	require.Equal(t, "anything", got)

	// A full buffer must not hide that the body was longer.
	r := bucket.ExactReader(t.Context(), io.NopCloser(strings.NewReader("abcd")), "x", 3)
	_, err = io.ReadFull(r, make([]byte, 3))
	require.ErrorIs(t, err, bucket.ErrLength)
}

func TestWithMetrics_CountsOperations(t *testing.T) {
	reg := prometheus.NewRegistry()
	broken := false
	f := buckettest.NewFaulty(bucket.NewMemory(), func(buckettest.Op) buckettest.Fault {
		if broken {
			return buckettest.Fault{Err: buckettest.ErrInjected}
		}
		return buckettest.Fault{}
	})
	b := bucket.WithMetrics(f, reg)
	require.NoError(t, b.Upload(t.Context(), "x", strings.NewReader("12345"), 5))
	_, err := bucket.ReadAll(t.Context(), b, "x", 10)
	require.NoError(t, err)
	_, err = b.Stat(t.Context(), "nothing")
	require.ErrorIs(t, err, bucket.ErrNotFound)
	require.Error(t, b.List(t.Context(), "", func(bucket.Object) error { return errors.New("caller") }))
	broken = true
	require.Error(t, b.Delete(t.Context(), "x"))
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP hindsight_objstore_operation_failures_total Operations on the bucket that failed after all tries. A missing object, a condition that does not hold and a cancellation by the caller are no failures.
# TYPE hindsight_objstore_operation_failures_total counter
hindsight_objstore_operation_failures_total{operation="delete"} 1
hindsight_objstore_operation_failures_total{operation="get"} 0
hindsight_objstore_operation_failures_total{operation="get_range"} 0
hindsight_objstore_operation_failures_total{operation="list"} 0
hindsight_objstore_operation_failures_total{operation="stat"} 0
hindsight_objstore_operation_failures_total{operation="upload"} 0
# HELP hindsight_objstore_transferred_bytes_total Bytes of object bodies read from or written to the bucket.
# TYPE hindsight_objstore_transferred_bytes_total counter
hindsight_objstore_transferred_bytes_total{operation="get"} 5
hindsight_objstore_transferred_bytes_total{operation="get_range"} 0
hindsight_objstore_transferred_bytes_total{operation="upload"} 5
`), "hindsight_objstore_operation_failures_total", "hindsight_objstore_transferred_bytes_total"))
}
