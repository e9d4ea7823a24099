package storerpc

import (
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
)

// queuedKey is in the metadata of a Series call whose client accepts messages without a
// series. Others ignore it.
const queuedKey = "hindsight-accepts-empty"

// queuedInterval is how often the server sends an empty message while an answer waits
// for other requests. It is less than the shortest time-out of a store, so that a client
// can tell a busy store from one that does not answer.
const queuedInterval = time.Second

// firstSeries moves to the first series of a set. While the set waits for other requests,
// it sends empty messages to a client that accepts them. An error of sending ends the call.
func firstSeries(stream grpc.ServerStream, set storeapi.SeriesSet) (more bool, err error) {
	queued, ok := set.(storeapi.QueuedSet)
	md, _ := metadata.FromIncomingContext(stream.Context())
	if !ok || len(md.Get(queuedKey)) == 0 {
		return set.Next(), nil
	}
	done, sent := make(chan struct{}), make(chan error, 1)
	go func() { sent <- sendWhileQueued(stream, queued, done) }()
	// Next stays in this goroutine: the server recovers from a panic here only.
	defer func() {
		close(done)
		err = <-sent
	}()
	return set.Next(), nil
}

// sendWhileQueued sends an empty message in each interval in which the set waits for other
// requests, until done is closed.
func sendWhileQueued(stream grpc.ServerStream, set storeapi.QueuedSet, done <-chan struct{}) error {
	ticks := time.NewTicker(queuedInterval)
	defer ticks.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-ticks.C:
			if !set.Queued() {
				continue
			}
			if err := stream.SendMsg(&storepb.SeriesResponse{}); err != nil {
				return fmt.Errorf("send empty message: %w", err)
			}
		}
	}
}
