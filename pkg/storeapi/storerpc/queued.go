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
// it sends empty messages to a client that accepts them.
func firstSeries(stream grpc.ServerStream, set storeapi.SeriesSet) (more bool, err error) {
	queued, ok := set.(storeapi.QueuedSet)
	md, _ := metadata.FromIncomingContext(stream.Context())
	if !ok || len(md.Get(queuedKey)) == 0 {
		return set.Next(), nil
	}
	first := make(chan bool, 1)
	go func() { first <- set.Next() }()
	ticks := time.NewTicker(queuedInterval)
	defer ticks.Stop()
	for {
		select {
		case more := <-first:
			return more, nil
		case <-ticks.C:
			if !queued.Queued() {
				continue
			}
			if err := stream.SendMsg(&storepb.SeriesResponse{}); err != nil {
				<-first // the call has ended, and so does the set
				return false, fmt.Errorf("send empty message: %w", err)
			}
		}
	}
}
