package headship_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/headlog"
)

// A checkpoint that is shipped for its series holds those of the segments up to its
// number. The series of later segments stay in the bucket, because later samples need them.
func TestSync_CheckpointReplacesSeriesOfItsSegmentsOnly(t *testing.T) {
	f := newFixture(t, nil)
	rng := rand.New(rand.NewPCG(1, 1))
	app := f.db.Appender(t.Context())
	for i := range 1300 {
		value := make([]byte, 4<<10)
		for j := range value {
			value[j] = byte('0' + rng.IntN(64))
		}
		_, err := app.Append(0, labels.FromStrings("__name__", "gone", "i", fmt.Sprint(i), "v", string(value)), hour, 1)
		require.NoError(t, err)
	}
	require.NoError(t, app.Commit())
	shipped := 0
	for i := range 9 * 60 {
		ts := hour + int64(i)*minute
		f.scrape("always", 20, ts)
		for from := 0; from <= i; from += 20 { // new ones again and again, and none ends
			f.scrape(fmt.Sprint("from", from), 1, ts)
		}
		if i%20 == 0 {
			f.sync()
		}
		if i%60 == 59 {
			f.compact(true)
			f.sync()
			shipped = max(shipped, kinds(f.one())[headlog.KindCheckpoint])
			if blocks := f.db.Blocks(); len(blocks) > 0 {
				head := f.inDB(blocks[len(blocks)-1].MaxTime())
				require.Empty(t, missing(head, f.inBucket(f.one())), "after %d minutes", i)
			}
		}
	}
	require.Positive(t, shipped, "no checkpoint was due")
	for _, p := range f.one().Pieces {
		if p.Kind == headlog.KindSeries {
			require.NotZero(t, p.Segment, "the first series are replaced")
		}
	}
}
