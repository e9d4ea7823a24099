package bucket_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
)

// TestRetry_RecognisesItsConditionalWrite loses the answer of every other write. A write
// that was stored must not be reported as lost to another one.
func TestRetry_RecognisesItsConditionalWrite(t *testing.T) {
	cfg := bucket.RetryConfig{MinBackoff: time.Microsecond, MaxBackoff: time.Microsecond, MaxTries: 50, Deadline: time.Hour}
	f := buckettest.NewFaulty(bucket.NewMemory(), func(op buckettest.Op) buckettest.Fault {
		if op.Kind == "upload" && op.N%2 == 1 {
			return buckettest.Fault{Err: buckettest.ErrInjected, AfterEffect: true}
		}
		return buckettest.Fault{}
	})
	c := bucket.Conditions(bucket.Retry(f, cfg, nil))
	v := bucket.NoVersion
	for i := range 4 {
		next, err := c.PutIf(t.Context(), "x", fmt.Appendf(nil, "write %d", i), v)
		require.NoError(t, err)
		_, at, err := c.GetVersion(t.Context(), "x", 10)
		require.NoError(t, err)
		require.Equal(t, next, at)
		v = at
	}
	_, err := c.PutIf(t.Context(), "x", []byte("another"), bucket.NoVersion)
	require.ErrorIs(t, err, bucket.ErrChanged)
}

// ignoring accepts conditions and ignores them, as some S3 servers do.
type ignoring struct {
	*bucket.Memory
	// creates says that it ignores versions only, and not that an object exists.
	creates bool
}

func (b ignoring) PutIf(ctx context.Context, name string, data []byte, old bucket.Version) (bucket.Version, error) {
	_, at, err := b.GetVersion(ctx, name, 1<<20)
	if err == nil && (old != bucket.NoVersion || !b.creates) {
		old = at
	}
	return b.Memory.PutIf(ctx, name, data, old)
}

// plain hides conditional writes.
type plain struct{ bucket.Bucket }

func TestProbeConditions_FindsBucketsWithoutThem(t *testing.T) {
	for name, b := range map[string]bucket.Bucket{
		"no interface":     plain{bucket.NewMemory()},
		"ignores all":      ignoring{Memory: bucket.NewMemory()},
		"ignores versions": ignoring{Memory: bucket.NewMemory(), creates: true},
	} {
		for what, b := range map[string]bucket.Bucket{"plain": b, "decorated": bucket.WithMetrics(bucket.Retry(bucket.Prefix(b, "p"), bucket.DefaultRetry(), nil), nil)} {
			require.ErrorIs(t, bucket.ProbeConditions(t.Context(), b, "dir"), bucket.ErrNoConditions, "%s, %s", name, what)
			require.NoError(t, b.List(t.Context(), "", func(o bucket.Object) error {
				t.Errorf("%s: the probe left %s", name, o.Name)
				return io.EOF
			}))
		}
	}
	faulty := buckettest.NewFaulty(bucket.NewMemory(), func(buckettest.Op) buckettest.Fault {
		return buckettest.Fault{Err: buckettest.ErrInjected}
	})
	err := bucket.ProbeConditions(t.Context(), faulty, "dir")
	require.ErrorIs(t, err, buckettest.ErrInjected)
	require.NotErrorIs(t, err, bucket.ErrNoConditions)
}
