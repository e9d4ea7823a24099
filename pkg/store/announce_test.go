package store

import (
	"math/rand/v2"
	"testing"

	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

func TestInfo_AnnouncesServedRange(t *testing.T) {
	bkt, _ := randomBucket(t, rand.New(rand.NewPCG(1, 2)), 1)
	storetest.AnnouncesWhatItServes(t, newGateway(t, bkt).RegisterGRPC)
}
