package query

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBudget_GivesMemoryBackOnceItIsIdle(t *testing.T) {
	b := newMemoryBudget(1<<30, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ticks, done := make(chan time.Time), make(chan struct{})
	freed := 0
	go func() {
		defer close(done)
		b.giveBack(ctx, ticks, func() { freed++ })
	}()
	// A tick is handled when the next one is taken.
	tick := func(n int) {
		for range n {
			ticks <- time.Time{}
		}
	}
	request := func(bytes int64) *share {
		s := b.share("", nil)
		require.NoError(t, s.take(t.Context(), bytes))
		return s
	}
	tick(3)
	request(1).close() // not worth it
	tick(3)
	large := request(idleMemory)
	tick(3) // it still runs
	require.Zero(t, freed)
	large.close()
	tick(4)
	require.Equal(t, 1, freed, "once, however long it is idle")
	for range idleRequests {
		request(1).close()
	}
	tick(4)
	cancel()
	<-done
	require.Equal(t, 2, freed)
}
