package store

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

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

// TestSelect_AgreesWithPrometheus compares the gateway with Prometheus's own querier over the
// same blocks, for random selectors.
func TestSelect_AgreesWithPrometheus(t *testing.T) { differential(t, 1, 1500) }

// TestSoakSelect_AgreesWithPrometheus is TestSelect_AgreesWithPrometheus with other data and selectors for
// HINDSIGHT_SOAK_MINUTES, from the seed HINDSIGHT_SOAK_SEED on (0: by the clock).
func TestSoakSelect_AgreesWithPrometheus(t *testing.T) {
	minutes, err := strconv.Atoi(os.Getenv("HINDSIGHT_SOAK_MINUTES"))
	if err != nil {
		t.Skip("HINDSIGHT_SOAK_MINUTES is not set")
	}
	seed, err := strconv.ParseUint(os.Getenv("HINDSIGHT_SOAK_SEED"), 10, 64)
	if err != nil || seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	for end := time.Now().Add(time.Duration(minutes) * time.Minute); time.Now().Before(end); seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { differential(t, seed, 1000) })
	}
}

func differential(t *testing.T, seed uint64, selectors int) {
	if testing.Short() {
		selectors /= 5
	}
	rng := rand.New(rand.NewPCG(seed, 2))
	bkt, blocks := randomBucket(t, rng, 40)
	o := newOracle(t, blocks)
	g := newGateway(t, bkt)
	for i := range selectors {
		r := randomRequest(rng)
		r.Columns = rng.IntN(4) > 0
		msg := fmt.Sprintf("seed %d, selector %d: %s [%d, %d] without %v", seed, i, matchersString(r.Matchers), r.MinTime, r.MaxTime, r.WithoutReplicaLabels)
		require.Equal(t, o.query(t.Context(), r), collect(t, g.Select(t.Context(), r), r), msg)
		if i%5 == 0 {
			compareLabels(t, o, g, r, msg)
		}
	}
	require.Greater(t, counterOf(t, g, "hindsight_store_column_cache_hits_total"), 200.0)
	require.Zero(t, counterOf(t, g, "hindsight_store_column_cache_broken_entries_total"))
}

func compareLabels(t *testing.T, o *oracle, g *Gateway, r *storeapi.Request, msg string) {
	t.Helper()
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

func randomRequest(rng *rand.Rand) *storeapi.Request {
	mint := rng.Int64N(7*hour) - hour/2
	r := &storeapi.Request{MinTime: mint, MaxTime: mint + rng.Int64N(4*hour), Matchers: randomMatchers(rng)}
	if rng.IntN(3) == 0 {
		r.WithoutReplicaLabels = []string{"replica"}
	}
	return r
}
