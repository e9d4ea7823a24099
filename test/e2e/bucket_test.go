package e2e

import (
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
)

// The acceptance suite of buckets passes on a real S3 server.
func TestBucketOnS3(t *testing.T) {
	s := newSite(t)
	require.NoError(t, s.Start("s3"))
	bkt := openBucket(t, s)
	open := func(*testing.T) bucket.Bucket { return bucket.Prefix(bkt, "acceptance-"+ulid.Make().String()) }
	buckettest.Run(t, open)
	// Not the suite of conditional reads: this server keeps ETags in other files than the
	// objects, and a read beside a write may return the old object with the new ETag.
	buckettest.RunConditional(t, open)
}
