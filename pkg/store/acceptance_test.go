package store

import (
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

// newDataStore serves the data from one block, or from two that each have a
// half of the chunks.
func newDataStore(t *testing.T, data storetest.Data, split bool) *Gateway {
	t.Helper()
	enc := chunkenc.EncXOR
	if data.XOR2 {
		enc = chunkenc.EncXOR2
	}
	parts := make([][]blocktest.Series, 1)
	if split {
		parts = append(parts, nil)
	}
	mint, maxt := int64(1<<62), int64(-1<<62)
	for _, s := range data.Series {
		var metas []chunks.Meta
		for _, c := range storetest.Chunks(t, s.Samples, 7, enc) {
			ch, err := chunkenc.FromData(c.Raw.Encoding, c.Raw.Bytes)
			require.NoError(t, err)
			metas = append(metas, chunks.Meta{Chunk: ch, MinTime: c.MinTime, MaxTime: c.MaxTime})
			mint, maxt = min(mint, c.MinTime), max(maxt, c.MaxTime+1)
		}
		for i := range parts {
			part := metas
			if split {
				part = [][]chunks.Meta{metas[:len(metas)/2], metas[len(metas)/2:]}[i]
			}
			if len(part) > 0 {
				parts[i] = append(parts[i], blocktest.Series{Labels: s.Labels, Chunks: part})
			}
		}
	}
	bkt := bucket.NewMemory()
	for i, part := range parts {
		m := &block.Meta{BlockMeta: tsdb.BlockMeta{ULID: ulid.MustNew(uint64(i+1), nil), MinTime: mint, MaxTime: maxt}}
		m.Thanos.Labels = data.External.Map()
		dir := filepath.Join(t.TempDir(), m.ULID.String())
		require.NoError(t, blocktest.Write(t.Context(), dir, m, part))
		testBlock{dir: dir, meta: m}.upload(t, bkt)
	}
	return newGateway(t, bkt)
}

func TestAcceptance(t *testing.T) {
	for _, split := range []bool{false, true} {
		name := map[bool]string{false: "one block", true: "two blocks"}[split]
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T, d storetest.Data) storeapi.Store { return newDataStore(t, d, split) })
		})
	}
	t.Run("through gRPC", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T, d storetest.Data) storeapi.Store {
			return storetest.ThroughGRPC(t, newDataStore(t, d, true))
		})
	})
}

// TestSelect_AgreesWithPrometheusThroughFanout is TestSelect_AgreesWithPrometheus through gateway, gRPC
// and fan-out.
func TestSelect_AgreesWithPrometheusThroughFanout(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	bkt, blocks := randomBucket(t, rng, 25)
	c := storetest.ThroughGRPC(t, newGateway(t, bkt))
	f := fanout.New(func() []storeapi.Store { return []storeapi.Store{c} }, fanout.Config{})
	o := newOracle(t, blocks)
	for i := range 1000 {
		r := randomRequest(rng)
		require.Equal(t, o.query(t.Context(), r), collect(t, f.Select(t.Context(), r), r),
			"selector %d: %s [%d, %d]", i, matchersString(r.Matchers), r.MinTime, r.MaxTime)
	}
}

// TestSelect_SortsByLabelsWithExternalOnes has series whose labels are prefixes of those
// of others, and external labels that sort before the further labels.
func TestSelect_SortsByLabelsWithExternalOnes(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for range 60 {
		ext := labels.NewBuilder(labels.EmptyLabels())
		for range 1 + rng.IntN(3) {
			ext.Set([]string{"0", "a1", "b1", "c1", "d1", "zz"}[rng.IntN(6)], "x")
		}
		data := storetest.Data{External: ext.Labels()}
		seen := map[string]bool{}
		for range 150 {
			b := labels.NewBuilder(labels.EmptyLabels())
			for _, name := range []string{"a", "b", "c", "d", "e"} {
				if v := rng.IntN(3); v > 0 {
					b.Set(name, strconv.Itoa(v))
				}
			}
			if l := b.Labels(); !l.IsEmpty() && !seen[l.String()] {
				seen[l.String()] = true
				data.Series = append(data.Series, storetest.Series{Labels: l, Samples: storetest.Floats(hour, 1000, 20)})
			}
		}
		g := newDataStore(t, data, rng.IntN(2) == 0)
		r := &storeapi.Request{MinTime: 0, MaxTime: 2 * hour, Matchers: []*labels.Matcher{matcher(labels.MatchEqual, "none", "")}}
		got := collect(t, g.Select(t.Context(), r), r)
		require.Len(t, got, len(data.Series))
		for _, s := range got {
			require.Len(t, s, 20)
		}
	}
}
