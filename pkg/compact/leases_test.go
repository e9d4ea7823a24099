package compact_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/compact/lease"
)

// TestRunOnce_CompactorsShareGroups runs two compactors on twenty groups. Each job is
// carried out once, and none of the two is idle.
func TestRunOnce_CompactorsShareGroups(t *testing.T) {
	const groups = 20
	var text strings.Builder
	for g := range groups {
		for i := range 6 {
			fmt.Fprintf(&text, "block g%02d%d range=%dh..%dh labels={tenant=\"%02d\"}\n  up{job=\"x\"} %dh..%dh/5m:1+1\n", g, i, 2*i, 2*i+2, g, 2*i, 2*i+2)
		}
	}
	b := blocktest.Bucket(t, text.String())
	want := content(t, b)
	var counts [2]atomic.Int64
	done := make(chan error)
	for i := range counts {
		// The other one carries out a job of its own before each job of this one.
		counted := buckettest.NewFaulty(b, func(op buckettest.Op) buckettest.Fault {
			if op.Kind == "upload" && strings.HasSuffix(op.Name, "/index") {
				counts[i].Add(1)
				for start := time.Now(); counts[1-i].Load() == 0 && time.Since(start) < 10*time.Second; {
					time.Sleep(time.Millisecond)
				}
			}
			return buckettest.Fault{}
		})
		// Longer than one waits for the other, so that no lease is lost on a slow host.
		c := newCompactor(t, counted, "--compact.lease-duration=30s")
		go func() { done <- c.RunOnce(t.Context()) }()
	}
	require.NoError(t, <-done)
	require.NoError(t, <-done)
	one, two := counts[0].Load(), counts[1].Load()
	t.Logf("%d and %d merges", one, two)
	require.Equal(t, int64(groups), one+two, "each group is merged once")
	require.Positive(t, min(one, two))
	require.Len(t, live(t, b), 3*groups)
	require.Equal(t, want, content(t, b))
}

// TestRunOnce_WritesEpochIntoResults also checks that the epoch of an input is not taken
// for that of the result.
func TestRunOnce_WritesEpochIntoResults(t *testing.T) {
	b := blocktest.Bucket(t, crashBucket())
	require.NoError(t, newCompactor(t, b, crashFlags...).RunOnce(t.Context()))
	results := 0
	epochs := map[uint64]bool{}
	for _, m := range poll(t, b).Metas {
		if m.Compaction.Level == 1 {
			require.Empty(t, m.Thanos.Extensions)
			continue
		}
		var ext struct {
			Lease struct {
				Epoch uint64
				Owner string
			} `json:"hindsight_lease"`
		}
		require.NoError(t, json.Unmarshal(m.Thanos.Extensions, &ext))
		require.Positive(t, ext.Lease.Epoch)
		require.Len(t, ext.Lease.Owner, 26)
		epochs[ext.Lease.Epoch] = true
		results++
	}
	require.Positive(t, results)
}

// A merge takes ten hours. Its sources are marked with the time of the mark, so that they stay
// for the whole delay after it.
func TestRunOnce_MarksSourcesWithTheTimeOfTheMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`))
		slow := buckettest.NewFaulty(b, nil)
		var end time.Time
		slow.SetRule(func(op buckettest.Op) buckettest.Fault {
			if op.Kind == "upload" && strings.HasSuffix(op.Name, "/index") && end.IsZero() {
				end = time.Now().Add(10 * time.Hour)
				return buckettest.Fault{Delay: 10 * time.Hour}
			}
			return buckettest.Fault{}
		})
		require.NoError(t, newCompactor(t, slow).RunOnce(t.Context()))
		marks := poll(t, b).Deletion
		require.Len(t, marks, 4)
		for _, m := range marks {
			require.GreaterOrEqual(t, m.DeletionTime, end.Unix())
		}
	})
}

// plainBucket hides conditional writes.
type plainBucket struct{ bucket.Bucket }

// TestRun_RefusesSecondWithoutConditions also shows the flag by which two can share the
// bucket by selectors.
func TestRun_RefusesSecondWithoutConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := plainBucket{blocktest.Bucket(t, twoHours(6, "a", `{cluster="eu"}`))}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- newCompactor(t, b, "--wait").Run(ctx) }()
		time.Sleep(time.Minute)
		err := newCompactor(t, b, "--wait").Run(ctx)
		require.ErrorIs(t, err, lease.ErrConflict)
		require.ErrorContains(t, err, "--compact.leases=none")
		require.NoError(t, newCompactor(t, b, "--compact.leases=none").RunOnce(ctx))
		cancel()
		require.NoError(t, <-done)
		require.Len(t, live(t, b), 3)
	})
}
