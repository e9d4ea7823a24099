package buckettest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// RunConditional checks what bucket.Conditional promises about writes. open returns an
// empty bucket for each call.
func RunConditional(t *testing.T, open func(t *testing.T) bucket.Bucket) {
	t.Helper()
	for name, f := range map[string]func(*testing.T, bucket.Bucket){
		"creating":   testCreating,
		"comparing":  testComparing,
		"one writer": testOneWriter,
		"probe":      testProbe,
	} {
		t.Run(name, func(t *testing.T) { f(t, open(t)) })
	}
}

// RunConditionalReads checks that the content and the version that GetVersion returns
// belong together while others write. A gateway that keeps the two in different files may
// return the next version with the last content.
func RunConditionalReads(t *testing.T, open func(t *testing.T) bucket.Bucket) {
	t.Helper()
	t.Run("counter", func(t *testing.T) { testCounter(t, open(t)) })
}

func testCreating(t *testing.T, b bucket.Bucket) {
	c := bucket.Conditions(b)
	_, _, err := c.GetVersion(t.Context(), "dir/x", 10)
	require.ErrorIs(t, err, bucket.ErrNotFound)
	v, err := c.PutIf(t.Context(), "dir/x", []byte("one"), bucket.NoVersion)
	require.NoError(t, err)
	data, at, err := c.GetVersion(t.Context(), "dir/x", 10)
	require.NoError(t, err)
	require.Equal(t, "one", string(data))
	require.Equal(t, v, at)
	_, err = c.PutIf(t.Context(), "dir/x", []byte("two"), bucket.NoVersion)
	require.ErrorIs(t, err, bucket.ErrChanged)
	require.Equal(t, "one", get(t, b, "dir/x"))
	require.Equal(t, []string{"dir/x"}, list(t, b, ""))

	_, _, err = c.GetVersion(t.Context(), "dir/x", 2)
	require.ErrorIs(t, err, bucket.ErrTooLarge)
	_, err = c.PutIf(t.Context(), "../x", []byte("x"), bucket.NoVersion)
	require.ErrorIs(t, err, bucket.ErrInvalidName)
}

// testComparing replaces an object whose versions are old, current, or gone.
func testComparing(t *testing.T, b bucket.Bucket) {
	c := bucket.Conditions(b)
	first, err := c.PutIf(t.Context(), "x", []byte("1"), bucket.NoVersion)
	require.NoError(t, err)
	second, err := c.PutIf(t.Context(), "x", []byte("2"), first)
	require.NoError(t, err)
	require.NotEqual(t, first, second)
	_, err = c.PutIf(t.Context(), "x", []byte("3"), first)
	require.ErrorIs(t, err, bucket.ErrChanged)
	require.Equal(t, "2", get(t, b, "x"))
	require.NoError(t, b.Delete(t.Context(), "x"))
	_, err = c.PutIf(t.Context(), "x", []byte("4"), second)
	require.ErrorIs(t, err, bucket.ErrChanged, "the object is gone")
	_, err = c.PutIf(t.Context(), "x", []byte("5"), bucket.NoVersion)
	require.NoError(t, err)
	require.Equal(t, "5", get(t, b, "x"))
}

// testOneWriter lets writers create and then replace one object at the same time.
func testOneWriter(t *testing.T, b bucket.Bucket) {
	c := bucket.Conditions(b)
	old := bucket.NoVersion
	for range 6 {
		const name = "dir/x"
		errs := make([]error, 8)
		var wg sync.WaitGroup
		for w := range errs {
			wg.Go(func() {
				_, errs[w] = c.PutIf(t.Context(), name, []byte(strings.Repeat("x", w+1)+" after "+string(old)), old)
			})
		}
		wg.Wait()
		won := 0
		for w, err := range errs {
			if err == nil {
				won++
				require.Len(t, get(t, b, name), w+1+len(" after ")+len(old))
				continue
			}
			require.True(t, errors.Is(err, bucket.ErrChanged) || bucket.IsTemporary(err), "%v", err)
		}
		require.Equal(t, 1, won)
		var err error
		_, old, err = c.GetVersion(t.Context(), name, 1000)
		require.NoError(t, err)
	}
}

// testCounter lets writers count in one object; no count may be lost.
func testCounter(t *testing.T, b bucket.Bucket) {
	const writers, each = 4, 8
	c := bucket.Conditions(b)
	_, err := c.PutIf(t.Context(), "n", []byte("0 start"), bucket.NoVersion)
	require.NoError(t, err)
	errs := make(chan error, writers)
	for w := range writers {
		go func() {
			errs <- func() error {
				for i := range each {
					for {
						data, v, err := c.GetVersion(t.Context(), "n", 100)
						if err != nil {
							return err
						}
						var n int
						if _, err := fmt.Sscan(string(data), &n); err != nil {
							return err
						}
						_, err = c.PutIf(t.Context(), "n", fmt.Appendf(nil, "%d %d.%d", n+1, w, i), v)
						if err == nil {
							break
						}
						if !errors.Is(err, bucket.ErrChanged) && !bucket.IsTemporary(err) {
							return err
						}
					}
				}
				return nil
			}()
		}()
	}
	for range writers {
		require.NoError(t, <-errs)
	}
	require.Equal(t, fmt.Sprint(writers*each), strings.Fields(get(t, b, "n"))[0])
}

func testProbe(t *testing.T, b bucket.Bucket) {
	require.NoError(t, bucket.ProbeConditions(t.Context(), b, "hindsight/leases"))
	require.Empty(t, list(t, b, ""), "the object of the probe is deleted")
	require.NoError(t, bucket.ProbeConditions(t.Context(), bucket.Prefix(b, "team"), "hindsight/leases"))
}
