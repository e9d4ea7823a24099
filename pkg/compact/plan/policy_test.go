package plan

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
)

func TestPolicy_RefusesRetentionBelowDownsampling(t *testing.T) {
	f := func(want string, raw, m5 time.Duration, downsampling bool) {
		t.Helper()
		p := Policy{Ranges: Ranges(), Downsampling: downsampling, Retention: map[int64]time.Duration{
			block.ResolutionRaw: raw, block.Resolution5m: m5,
		}}
		err := p.Validate()
		if want == "" {
			require.NoError(t, err)
			return
		}
		require.ErrorContains(t, err, want)
	}
	day := 24 * time.Hour
	f("", 0, 0, true)
	f("", 40*time.Hour, 10*day, true)
	f("raw retention of 39h is shorter than 40h", 39*time.Hour, 0, true)
	f("5m retention of 9d is shorter than 10d", 0, 9*day, true)
	f("", time.Hour, time.Hour, false)
	require.Error(t, (&Policy{}).Validate())
	require.Error(t, (&Policy{Ranges: []int64{2, 3}}).Validate())
}

func TestFloor_RoundsDown(t *testing.T) {
	for _, c := range [][3]int64{{0, 10, 0}, {9, 10, 0}, {10, 10, 10}, {-1, 10, -10}, {-10, 10, -10}, {-11, 10, -20}} {
		require.Equal(t, c[2], floor(c[0], c[1]))
	}
}
