package hashring_test

import (
	"fmt"

	"github.com/hindsight-io/hindsight/pkg/receive/hashring"
)

func ExampleNew() {
	specs, err := hashring.Parse([]byte(`[{"endpoints": ["a:10901", "b:10901", "c:10901"]}]`))
	if err != nil {
		panic(err)
	}
	rings, err := hashring.New(specs, hashring.Options{Algorithm: hashring.Ketama, Replicas: 2})
	if err != nil {
		panic(err)
	}
	ring, err := rings.For("team-a")
	if err != nil {
		panic(err)
	}
	const seriesHash = 42
	for n, member := range ring.Set(ring.Lookup(seriesHash)) {
		fmt.Printf("copy %d: %s\n", n+1, ring.Endpoints()[member].Address)
	}
	// Output:
	// copy 1: b:10901
	// copy 2: a:10901
}
