package buckettest

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

func testCancelled(t *testing.T, b bucket.Bucket) {
	put(t, b, "x", "content")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := bucket.ReadAll(ctx, b, "x", 10)
	require.ErrorIs(t, err, context.Canceled)
	_, err = b.Stat(ctx, "x")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, b.Upload(ctx, "y", strings.NewReader("x"), 1), context.Canceled)
	require.ErrorIs(t, b.Delete(ctx, "x"), context.Canceled)
	require.ErrorIs(t, b.List(ctx, "", func(bucket.Object) error { return nil }), context.Canceled)
	require.Equal(t, []string{"x"}, list(t, b, ""))
}
