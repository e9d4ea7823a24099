package compact

import (
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// The time of a block doubles with each failure up to a day, and a block that is gone is
// forgotten, with its series.
func TestQuarantine_Times(t *testing.T) {
	gauge := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "g"}, []string{"block", "reason"})
	q := newQuarantine(gauge)
	id, now := ulid.MustNew(1, nil), time.Unix(0, 0)
	for _, wait := range []time.Duration{15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 16 * time.Hour, 24 * time.Hour, 24 * time.Hour} {
		q.add(id, reason.BlockSizeMismatch, "first", now)
		q.add(id, reason.BlockIndexCorrupt, "second", now)
		require.Equal(t, "first", q.details()[id], "the error of a held block stays")
		require.Empty(t, q.try(now.Add(wait-1)))
		now = now.Add(wait)
		require.Equal(t, []ulid.ULID{id}, q.try(now))
		require.Empty(t, q.details(), "jobs may take it")
		require.Equal(t, 1, testutil.CollectAndCount(gauge), "the series stays during the trial")
	}
	q.add(id, reason.BlockIndexCorrupt, "another", now)
	require.Equal(t, 1, testutil.CollectAndCount(gauge), "one series, with the new reason")
	require.Equal(t, time.Unix(0, 0), q.all()[id].since)
	q.keep(map[ulid.ULID]*block.Meta{id: {}})
	require.Len(t, q.all(), 1)
	q.keep(nil)
	require.Empty(t, q.all())
	require.Zero(t, testutil.CollectAndCount(gauge))
}

// A block that does not fail on trial is free; if it fails later, its time has doubled.
func TestQuarantine_FreesAfterTrial(t *testing.T) {
	q := newQuarantine(prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "g"}, []string{"block", "reason"}))
	id, now := ulid.MustNew(1, nil), time.Unix(0, 0)
	q.add(id, reason.BlockSizeMismatch, "", now)
	q.passed()
	require.Len(t, q.all(), 1, "it was not on trial")
	now = now.Add(time.Hour)
	q.try(now)
	q.passed()
	require.Empty(t, q.all())
	require.Zero(t, testutil.CollectAndCount(q.gauge))
	q.add(id, reason.BlockSizeMismatch, "", now)
	require.Equal(t, now.Add(30*time.Minute), q.all()[id].until)
	require.Equal(t, now, q.all()[id].since)
}
