package replicate_test

import (
	"errors"
	"fmt"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/receive/replicate"
)

func ExampleSetState() {
	set := replicate.SetState{Replicas: 3, Quorum: replicate.Quorum(3)}
	set.Report(nil)
	fmt.Println(set.Verdict() == replicate.Pending)
	set.Report(remotewrite.Errorf(remotewrite.Unavailable, "%w", errors.New("connection refused")))
	set.Report(nil)
	fmt.Println(set.Verdict() == replicate.Won)
	// Output:
	// true
	// true
}
