package storerpc

import (
	"math/rand"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// requireSameChunk compares addChunk with addAnyChunk, which decodes every form field by
// field.
func requireSameChunk(t *testing.T, b []byte) {
	var fast, slow frame
	errFast, errSlow := fast.addChunk(b), slow.addAnyChunk(b)
	require.Equal(t, errSlow == nil, errFast == nil, "%x", b)
	require.Equal(t, slow.chunks, fast.chunks, "%x", b)
	require.Equal(t, slow.bad, fast.bad, "%x", b)
}

// randomWireChunk is a chunk in any form that an encoder writes.
func randomWireChunk(r *rand.Rand) []byte {
	c := storeapi.Chunk{MinTime: r.Int63() >> r.Intn(64), MaxTime: r.Int63() >> r.Intn(64)}
	if r.Intn(8) == 0 {
		c.MinTime = -c.MinTime
	}
	x := chunkenc.NewXORChunk()
	app, _ := x.Appender()
	for range r.Intn(100) {
		app.Append(0, r.Int63n(1000), r.Float64())
	}
	c.Raw = storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: x.Bytes()}
	switch r.Intn(8) {
	case 0:
		c.Raw.Encoding = chunkenc.Encoding(r.Intn(6))
	case 1:
		c.Raw.Hash = r.Uint64()
	case 2:
		c.Raw.Bytes = c.Raw.Bytes[:r.Intn(len(c.Raw.Bytes))]
	case 3:
		c.Aggr = &storeapi.Aggregates{Sum: c.Raw}
	}
	return appendChunk(nil, &c)
}

func TestPlainChunk_EqualsAnyChunk(t *testing.T) {
	plain := 0
	for seed := range int64(20_000) {
		r := rand.New(rand.NewSource(seed))
		b := randomWireChunk(r)
		if len(b) > 0 && r.Intn(2) == 0 {
			b[r.Intn(min(len(b), 24))] ^= byte(1 << r.Intn(8)) // most of the structure is there
		}
		if r.Intn(6) == 0 {
			b = b[:r.Intn(len(b)+1)]
		}
		if _, _, _, ok := plainChunk(b); ok {
			plain++
		}
		requireSameChunk(t, b)
	}
	require.Greater(t, plain, 5_000)
}

func FuzzPlainChunk_EqualsAnyChunk(f *testing.F) {
	for seed := range int64(20) {
		f.Add(randomWireChunk(rand.New(rand.NewSource(seed))))
	}
	f.Fuzz(requireSameChunk)
}
