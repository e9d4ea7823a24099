package compact_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact"
	"github.com/hindsight-io/hindsight/pkg/compact/lease"
)

func newClaims(b bucket.Bucket, wait time.Duration, waits *int) *compact.Claims {
	return compact.NewClaims(compact.ClaimConfig{
		Bucket: b, Duration: time.Minute, Wait: wait, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
		Waiting: func(error) { *waits++ },
	})
}

// pausedMerge starts a compactor that stops before it publishes its first result.
func pausedMerge(t *testing.T, b *bucket.Memory) (*stoppable, chan error) {
	t.Helper()
	paused := newStoppable(b, func(op string) bool {
		return strings.HasPrefix(op, "upload ") && strings.HasSuffix(op, "/"+block.MetaFile)
	})
	done := make(chan error, 1)
	go func() { done <- newCompactor(t, paused, crashFlags...).RunOnce(t.Context()) }()
	synctest.Wait()
	require.NotEmpty(t, paused.stopped)
	return paused, done
}

// TestClaim_WaitsForTheCompactorOfTheGroup claims a block of a replica whose group, without
// the replica label, a compactor works on.
func TestClaim_WaitsForTheCompactorOfTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := blocktest.Bucket(t, crashBucket())
		blocktest.Fill(t, b, "block other range=0h..2h labels={cluster=\"us\",replica=\"a\"}\n  m 0m:1\n")
		of := func(id ulid.ULID) *block.Meta {
			m, err := block.ReadMeta(t.Context(), b, id)
			require.NoError(t, err)
			return m
		}
		a00, other := of(blocktest.ID("a00")), of(blocktest.ID("other"))
		paused, done := pausedMerge(t, b)
		waits := 0
		c := newClaims(b, 20*time.Second, &waits)
		defer c.Close(t.Context())
		_, release, err := c.Claim(t.Context(), other)
		require.NoError(t, err, "another group is free")
		release()
		require.Zero(t, waits)
		_, _, err = c.Claim(t.Context(), a00)
		var held *lease.HeldError
		require.ErrorAs(t, err, &held)
		require.ErrorContains(t, err, "try again later")
		require.Equal(t, 1, waits)

		close(paused.resume)
		require.NoError(t, <-done)
		_, release, err = c.Claim(t.Context(), a00)
		require.NoError(t, err)
		_, err = block.ReadMeta(t.Context(), b, a00.ULID)
		require.ErrorIs(t, err, bucket.ErrNotFound, "the caller sees that it was merged")
		release()
	})
}

// TestClaim_KeepsCompactorsAway holds the claim of a block beside a compactor, which works
// on it only when the claim is released, or when the process with it was killed.
func TestClaim_KeepsCompactorsAway(t *testing.T) {
	for _, killed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := blocktest.Bucket(t, crashBucket())
			m, err := block.ReadMeta(t.Context(), b, blocktest.ID("a00"))
			require.NoError(t, err)
			before := live(t, b)
			waits := 0
			process := newStoppable(b, func(string) bool { return false })
			c := newClaims(process, time.Minute, &waits)
			ctx, release, err := c.Claim(t.Context(), m)
			require.NoError(t, err)
			done := make(chan error, 1)
			go func() {
				done <- newCompactor(t, b, crashFlags...).RunOnce(t.Context())
			}()
			if killed {
				process.mu.Lock()
				process.stopped = "killed" // no heartbeat comes any more
				process.mu.Unlock()
				require.NoError(t, <-done)
				require.NotEqual(t, before, live(t, b))
				close(process.resume)
				_, err := block.MarkDeletion(ctx, compact.Fenced(process), blocktest.ID("late"), "", time.Now())
				require.ErrorIs(t, err, lease.ErrLost)
				release()
				c.Close(context.Background())
				return
			}
			time.Sleep(30 * time.Second)
			_, err = block.MarkDeletion(ctx, compact.Fenced(process), m.ULID, "by hand", time.Now())
			require.NoError(t, err)
			release()
			c.Close(t.Context())
			require.NoError(t, <-done)
			for key := range content(t, b, "replica") {
				require.NotContains(t, key, `only_a{block="0"}`, "the block was marked before any merge")
			}
		})
	}
}
