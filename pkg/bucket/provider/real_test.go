package provider

import (
	"errors"
	"log/slog"
	"os"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
)

// TestConfigured runs the acceptance suite on a bucket of a real provider. The
// environment variable names a file of the usual configuration; the bucket must
// exist, and is used under a random prefix.
func TestConfigured(t *testing.T) {
	file := os.Getenv("HINDSIGHT_TEST_OBJSTORE_FILE")
	if file == "" {
		t.Skip("HINDSIGHT_TEST_OBJSTORE_FILE does not name an object storage configuration")
	}
	yml, err := os.ReadFile(file)
	require.NoError(t, err)
	b, err := Open(t.Context(), yml, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	require.NoError(t, err)
	require.NoError(t, Check(t.Context(), b))
	open := func(*testing.T) bucket.Bucket { return bucket.Prefix(b, "hindsight-test-"+ulid.Make().String()) }
	buckettest.Run(t, open)
	if err := bucket.ProbeConditions(t.Context(), open(t), "probe"); !errors.Is(err, bucket.ErrNoConditions) {
		require.NoError(t, err)
		buckettest.RunConditional(t, open)
		buckettest.RunConditionalReads(t, open)
	}
}
