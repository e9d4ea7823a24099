package multitsdb

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// A tenant that suddenly sends ten times its limit, from many senders, stays
// within 5 % of it; its series of before lose nothing, and other tenants do not
// notice.
func TestBurstOfNewSeries(t *testing.T) {
	const limit, known, writers, rounds = 2000, 1000, 16, 10
	d := openDB(t, t.TempDir(), func(c *Config) {
		c.Limits = func(id string) Limits {
			if id == "a" {
				return Limits{ActiveSeries: limit}
			}
			return Limits{}
		}
	})
	now := time.Now().UnixMilli()
	old := make([]prompb.TimeSeries, known)
	for i := range old {
		old[i] = float(fmt.Sprint("old", i), now, 0)
	}
	require.NoError(t, write(t, d, "a", old...))

	var wg sync.WaitGroup
	var refused atomic.Int64
	for w := range writers {
		wg.Go(func() {
			const each = 10 * limit / writers / rounds
			for round := range rounds {
				var burst []prompb.TimeSeries
				for i := range each {
					burst = append(burst, float(fmt.Sprintf("new%d_%d_%d", w, round, i), now, 1))
				}
				// Each sender of the burst has some of the old series with it.
				for i := w; i < known; i += writers {
					burst = append(burst, float(fmt.Sprint("old", i), now+int64(round)+1, float64(round)))
				}
				err := write(t, d, "a", burst...)
				if err != nil {
					refused.Add(1)
					if remotewrite.KindOf(err) != remotewrite.LimitExceeded || strings.Contains(err.Error(), "old") {
						t.Errorf("old series are not refused: %v", err)
					}
				}
				if err := write(t, d, "b", burst...); err != nil {
					t.Errorf("the other tenant: %v", err)
				}
			}
		})
	}
	wg.Wait()
	stats := d.Stats()
	require.Equal(t, "a", stats[0].Tenant)
	require.GreaterOrEqual(t, stats[0].Series, uint64(limit))
	require.LessOrEqual(t, stats[0].Series, uint64(limit*105/100))
	require.Equal(t, uint64(limit), stats[0].SeriesLimit)
	require.Equal(t, uint64(known+10*limit), stats[1].Series)
	require.Zero(t, stats[1].SeriesLimit)
	require.NotZero(t, refused.Load())
	require.Equal(t, 1, testutil.CollectAndCount(newLimitCollector(d)))
	require.Equal(t, float64(limit), testutil.ToFloat64(newLimitCollector(d)))

	samples := 0
	for _, line := range dump(t, d) {
		if strings.Contains(line, `"old`) && strings.Contains(line, `tenant_id="a"`) {
			samples++
		}
	}
	require.Equal(t, known*(1+rounds), samples)
}
