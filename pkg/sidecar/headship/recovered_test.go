package headship_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// A generation that another process has recovered and removed meanwhile is not
// continued: the log is shipped from its beginning again, with its series.
func TestSync_BeginsAgainAfterItsHeadWasRecovered(t *testing.T) {
	f := newFixture(t, nil)
	f.scrape("a", 30, hour)
	f.sync()
	old := f.one()
	require.NoError(t, f.bucket.List(t.Context(), old.Dir(), func(o bucket.Object) error {
		return f.bucket.Delete(t.Context(), o.Name)
	}))
	f.scrape("a", 30, hour+minute)
	f.sync()
	g := f.one()
	require.NotEqual(t, old.ID, g.ID)
	require.Empty(t, missing(f.inDB(0), f.inBucket(g)))
}
