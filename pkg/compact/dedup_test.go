package compact_test

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact"
	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// haPair is two replicas whose scrapes are 7 s apart, with gaps in each.
const haPair = `
block a0 range=0h..2h labels={cluster="eu",replica="a"}
  up{job="x"}  0s..30m/30s:1+1 45m..2h/30s:1000+1
  lat{job="x"} 0s..30m/30s:h1+1 45m..2h/30s:h1000+1
  only_a       0s..2h/30s:5
block b0 range=0h..2h labels={cluster="eu",replica="b"}
  up{job="x"}  7s..1h/30s:1+1 4807s..7000s/30s:900+1
  lat{job="x"} 7s..1h/30s:h1+1 4807s..7000s/30s:h900+1
  only_b       7s..2h/30s:6
`

// online merges the chunks of all blocks as a query with deduplication does.
func online(t testing.TB, b bucket.Bucket) map[string][]sample {
	t.Helper()
	metas := poll(t, b).Metas
	ids := slices.SortedFunc(maps.Keys(metas), func(x, y ulid.ULID) int {
		return labels.Compare(metas[x].ExternalLabels(), metas[y].ExternalLabels())
	})
	series := map[string][]dedup.Replica{}
	for _, id := range ids {
		each(t, b, id, func(lset labels.Labels, chks []chunks.Meta) {
			var cs []storeapi.Chunk
			for _, c := range chks {
				cs = append(cs, storeapi.Chunk{
					MinTime: c.MinTime, MaxTime: c.MaxTime,
					Raw: storeapi.Data{Encoding: c.Chunk.Encoding(), Bytes: slices.Clone(c.Chunk.Bytes())},
				})
			}
			series[lset.String()] = append(series[lset.String()], dedup.Replica{
				Samples: aggr.SeriesIterator(cs, []storeapi.Aggregate{storeapi.AggregateRaw}), Interval: 30_000,
			})
		})
	}
	out := map[string][]sample{}
	for key, replicas := range series {
		out[`{cluster="eu"}`+key] = drain(t, dedup.FuncCoverage.Merge(replicas, dedup.Options{Bounds: dedup.Bounds{MinTime: math.MinInt64, MaxTime: math.MaxInt64}}))
	}
	return out
}

func TestMerge_PenaltyEqualsQuery(t *testing.T) {
	b := blocktest.Bucket(t, haPair)
	want := online(t, b)
	c := newCompactor(t, b, "--deduplication.func=penalty", "--deduplication.replica-label=replica")
	require.NoError(t, c.RunOnce(context.Background()))
	got := content(t, b)
	require.Len(t, live(t, b), 1)
	require.Len(t, got, 4)
	for key := range want {
		require.Equal(t, want[key], got[key], key)
	}
}

// Replicas of many blocks are merged, then windows. The result has about as many
// samples as one replica.
func TestMerge_PenaltyOverManyBlocks(t *testing.T) {
	var s strings.Builder
	for i := range 30 {
		for r, name := range []string{"a", "b"} {
			fmt.Fprintf(&s, "block %s%02d range=%dh..%dh labels={cluster=\"eu\",replica=%q}\n", name, i, 2*i, 2*i+2, name)
			fmt.Fprintf(&s, "  up{job=\"x\"} %ds..%dh/30s:1+0.5\n", 7200*i+7*r, 2*i+2)
		}
	}
	b := blocktest.Bucket(t, s.String())
	c := newCompactor(t, b, "--deduplication.func=penalty", "--deduplication.replica-label=replica")
	require.NoError(t, c.RunOnce(context.Background()))
	got := content(t, b)[`{cluster="eu"}{__name__="up", job="x"}`]
	require.InDelta(t, 30*240, len(got), 30*2)
	for i := 1; i < len(got); i++ {
		require.LessOrEqual(t, got[i].t-got[i-1].t, int64(60_000))
		require.GreaterOrEqual(t, got[i].t-got[i-1].t, int64(7_000))
	}
	require.Contains(t, strings.Join(live(t, b), "\n"), "0..48h res=0 level=4")
	require.Contains(t, strings.Join(live(t, b), "\n"), "0..48h res=5 level=4")
}

// Of exact copies, as of a hash ring, every sample is kept once.
func TestMerge_KeepsEverySampleOfCopies(t *testing.T) {
	b := blocktest.Bucket(t, `
block a0 range=0h..2h labels={cluster="eu",replica="a"}
  up{job="x"}  0s..1h/15s:1 61m..2h/15s:1
  same         0s..2h/15s:1
block b0 range=0h..2h labels={cluster="eu",replica="b"}
  up{job="x"}  0s..90m/15s:1 91m..2h/15s:1
  same         0s..2h/15s:1
`)
	c := newCompactor(t, b, "--deduplication.replica-label=replica")
	require.NoError(t, c.RunOnce(context.Background()))
	require.Equal(t, []string{`0..2h res=0 level=2 samples=960 series=2 {cluster="eu"}`}, live(t, b))
}

// The nodes of a hash ring store copies: all samples are kept, also by penalty
// and beside real replicas.
func TestMerge_RingCopiesAreOneSource(t *testing.T) {
	b := blocktest.Bucket(t, `
block a0 range=0h..2h labels={cluster="eu",receive_replica="0"}
  up{job="x"}  0s..1h/15s:1 61m..2h/30s:1
block b0 range=0h..2h labels={cluster="eu",receive_replica="1"}
  up{job="x"}  0s..61m/30s:1 61m..2h/15s:1
block c0 range=0h..2h labels={cluster="us",receive_replica="0",replica="a"}
  up{job="x"}  0s..1h/15s:1
block c1 range=0h..2h labels={cluster="us",receive_replica="1",replica="a"}
  up{job="x"}  1h..2h/15s:1
block d0 range=0h..2h labels={cluster="us",receive_replica="1",replica="b"}
  up{job="x"}  7s..2h/15s:1
`)
	c := newCompactor(t, b, "--deduplication.func=penalty", "--deduplication.replica-label=replica,receive_replica")
	require.NoError(t, c.RunOnce(context.Background()))
	require.ElementsMatch(t, []string{
		`0..2h res=0 level=2 samples=478 series=1 {cluster="eu"}`,
		`0..2h res=0 level=2 samples=480 series=1 {cluster="us"}`,
	}, live(t, b))
}

// HA pairs are not copies. Taking the samples of both would double the data and
// make every rate wrong, and nothing could undo it.
func TestMerge_RefusesHAPairAsCopies(t *testing.T) {
	b := blocktest.Bucket(t, strings.ReplaceAll(haPair, "up{", "up{pod=\"1\",")+`
block x0 range=0h..2h labels={cluster="eu",replica="c"}
  up{job="x"}  0s..2h/2s:1
block y0 range=0h..2h labels={cluster="us",replica="a"}
  up{job="x"}  0s..2h/2s:1
block y1 range=0h..2h labels={cluster="us",replica="b"}
  up{job="x"}  0s..2h/2s:1
`)
	before := content(t, b)
	c := newCompactor(t, b, "--deduplication.replica-label=replica")
	err := c.RunOnce(context.Background())
	var failed *compact.FailedError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, 1, failed.Jobs)
	require.ErrorContains(t, err, "set --deduplication.func=penalty")
	// The other group is not affected, and nothing of the refused one changed.
	after := content(t, b)
	for key, samples := range before {
		if !strings.Contains(key, `"us"`) {
			require.Equal(t, samples, after[key])
		}
	}
	require.Contains(t, strings.Join(live(t, b), "\n"), `0..2h res=0 level=2 samples=3600 series=1 {cluster="us"}`)
}

// Blocks of one producer that overlap, as out-of-order data makes them, lose
// nothing and double nothing, without any flag.
func TestMerge_KeepsSamplesOfOutOfOrderBlock(t *testing.T) {
	b := blocktest.Bucket(t, `
block a0 range=0h..2h labels={cluster="eu"}
  up{job="x"}  0s..1h/15s:1 90m..2h/15s:1
block o0 range=0h..2h labels={cluster="eu"} hints=from-out-of-order
  up{job="x"}  1h..90m/15s:1
  late         1h..90m/15s:1
`)
	c := newCompactor(t, b)
	require.NoError(t, c.RunOnce(context.Background()))
	require.Equal(t, []string{`0..2h res=0 level=2 samples=600 series=2 {cluster="eu"}`}, live(t, b))
}
