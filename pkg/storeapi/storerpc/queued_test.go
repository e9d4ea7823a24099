package storerpc

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
)

// countingStream counts the messages that are sent.
type countingStream struct {
	grpc.ServerStream
	ctx  context.Context
	sent int
}

func (s *countingStream) Context() context.Context { return s.ctx }

func (s *countingStream) SendMsg(m any) error {
	s.sent++
	if n := m.(*storepb.SeriesResponse).SizeVT(); n != 0 {
		panic("a message that is not empty")
	}
	return nil
}

// slowSet has its first series after a time in which it waits for others, and one in
// which it does not.
type slowSet struct {
	storeapi.SeriesSet
	queued, reading time.Duration
	waits           atomic.Bool
}

func (s *slowSet) Queued() bool { return s.waits.Load() }

func (s *slowSet) Next() bool {
	s.waits.Store(true)
	time.Sleep(s.queued)
	s.waits.Store(false)
	time.Sleep(s.reading)
	return s.SeriesSet.Next()
}

func TestFirstSeries_SendsEmptyMessagesOnlyWhileQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		accepts := metadata.NewIncomingContext(t.Context(), metadata.Pairs(queuedKey, "true"))
		for _, c := range []struct {
			ctx             context.Context
			queued, reading time.Duration
			sent            int
		}{
			{accepts, 0, 0, 0},
			{accepts, 5*queuedInterval + queuedInterval/2, 0, 5},
			{accepts, 3*queuedInterval + queuedInterval/2, 30 * queuedInterval, 3},
			{t.Context(), 5 * queuedInterval, 0, 0}, // other clients do not know them
		} {
			stream := &countingStream{ctx: c.ctx}
			set := &slowSet{SeriesSet: storeapi.NewSliceSet([]storeapi.Series{{Labels: labels.FromStrings("a", "b")}}), queued: c.queued, reading: c.reading}
			more, err := firstSeries(stream, set)
			require.NoError(t, err)
			require.True(t, more)
			require.Equal(t, "b", set.At().Labels.Get("a"))
			require.Equal(t, c.sent, stream.sent)
		}
	})
}

// panickingSet panics in Next.
type panickingSet struct{ slowSet }

func (s *panickingSet) Next() bool { panic("bug") }

// The server recovers from panics in the goroutine of the call.
func TestFirstSeries_PanicsInTheGoroutineOfTheCall(t *testing.T) {
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(queuedKey, "true"))
	require.PanicsWithValue(t, "bug", func() { _, _ = firstSeries(&countingStream{ctx: ctx}, &panickingSet{}) })
}
