package store

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

const hour = int64(3_600_000)

// randomBucket has two clusters of two replicas with three blocks each.
func randomBucket(t testing.TB, rng *rand.Rand, series int) (*bucket.Memory, []testBlock) {
	bkt := bucket.NewMemory()
	var blocks []testBlock
	for _, ext := range []map[string]string{
		{"cluster": "c1", "replica": "r1"}, {"cluster": "c1", "replica": "r2"}, {"cluster": "c2", "zz": "last"},
	} {
		for i := range int64(3) {
			b := writeBlock(t, rng, i*2*hour, (i+1)*2*hour, series, ext)
			b.upload(t, bkt)
			blocks = append(blocks, b)
		}
	}
	return bkt, blocks
}

// TestDifferential compares the gateway with Prometheus's own querier over the
// same blocks, for random selectors. HINDSIGHT_SOAK sets another number of
// selectors, HINDSIGHT_SEED another seed.
func TestDifferential(t *testing.T) {
	seed, selectors := uint64(1), 1500
	if s := os.Getenv("HINDSIGHT_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		seed = n
	}
	if s := os.Getenv("HINDSIGHT_SOAK"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		selectors = n
	}
	rng := rand.New(rand.NewPCG(seed, 2))
	bkt, blocks := randomBucket(t, rng, 40)
	o := newOracle(t, blocks)
	g := newGateway(t, bkt)
	for i := range selectors {
		r := randomRequest(rng)
		msg := fmt.Sprintf("seed %d, selector %d: %s [%d, %d] without %v", seed, i, matchersString(r.Matchers), r.MinTime, r.MaxTime, r.WithoutReplicaLabels)
		require.Equal(t, o.query(t.Context(), r), collect(t, g.Select(t.Context(), r), r), msg)
		if i%5 > 0 {
			continue
		}
		for _, name := range []string{"", "__name__", "cluster", "pod", "replica", "zz"} {
			if name == "replica" && r.WithoutReplicaLabels != nil {
				continue
			}
			var got []string
			var err error
			if name == "" {
				got, _, err = g.LabelNames(t.Context(), r)
			} else {
				got, _, err = g.LabelValues(t.Context(), name, r)
			}
			require.NoError(t, err, msg)
			if len(got) == 0 {
				got = []string{}
			}
			require.Equal(t, o.labelValues(t.Context(), name, r), got, "label %q, %s", name, msg)
		}
	}
}

func randomRequest(rng *rand.Rand) *storeapi.Request {
	mint := rng.Int64N(7*hour) - hour/2
	r := &storeapi.Request{MinTime: mint, MaxTime: mint + rng.Int64N(4*hour), Matchers: randomMatchers(rng)}
	if rng.IntN(3) == 0 {
		r.WithoutReplicaLabels = []string{"replica"}
	}
	return r
}
