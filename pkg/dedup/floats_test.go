package dedup

import (
	"math"
	"math/rand"
	"testing"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/columnchunk"
)

// xorList is a series as XOR chunks.
type xorList struct {
	spans   [][2]int64
	bytes   [][]byte
	columns map[int]bool // chunks in the encoding of package columnchunk
	decoded int
}

func (l *xorList) Len() int { return len(l.bytes) }

func (l *xorList) Chunk(i int) FloatChunk {
	l.decoded++
	return FloatChunk{MinTime: l.spans[i][0], MaxTime: l.spans[i][1], Payload: l.bytes[i], Columns: l.columns[i]}
}

// mix encodes half of the chunks as columns, as a store that keeps those has them.
func (l *xorList) mix(r *rand.Rand) *xorList {
	l.columns = map[int]bool{}
	var e columnchunk.Encoder
	for i, b := range l.bytes {
		if r.Intn(2) == 0 {
			continue
		}
		if b, ok := e.AppendChunk(nil, chunkenc.EncXOR, b); ok {
			l.bytes[i], l.columns[i] = b, true
		}
	}
	return l
}

// cut makes chunks of random length of floats.
func cut(t testing.TB, r *rand.Rand, samples []sample) *xorList {
	l := &xorList{}
	for len(samples) > 0 {
		n := min(1+r.Intn(30), len(samples))
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		for _, s := range samples[:n] {
			app.Append(0, s.t, s.v)
		}
		l.spans = append(l.spans, [2]int64{samples[0].t, samples[n-1].t})
		l.bytes = append(l.bytes, c.Bytes())
		samples = samples[n:]
	}
	return l.mix(r)
}

// floatsOnly drops histograms and puts in stale markers here and there.
func floatsOnly(r *rand.Rand, samples []sample) []sample {
	var out []sample
	for _, s := range samples {
		if s.h != nil {
			continue
		}
		if r.Intn(20) == 0 {
			s.v = math.Float64frombits(value.StaleNaN)
		}
		out = append(out, s)
	}
	return out
}

func within(samples []sample, b Bounds) []sample {
	var out []sample
	for _, s := range samples {
		if s.t >= b.MinTime && s.t <= b.MaxTime {
			out = append(out, s)
		}
	}
	return out
}

func requireSameSamples(t *testing.T, want, got []sample, seed int64) {
	t.Helper()
	require.Equal(t, len(want), len(got), "seed %d", seed)
	for i := range want {
		require.Equal(t, want[i].t, got[i].t, "seed %d", seed)
		require.Equal(t, math.Float64bits(want[i].v), math.Float64bits(got[i].v), "seed %d at %d", seed, want[i].t)
	}
}

// seeds are the first n, and rare ones at which a gap near the end of a replica was
// missed in one form of the samples.
func seeds(n int64) []int64 {
	out := []int64{3263, 5608, 14974, 17087, 24802, 39447, 47053, 47134, 49809, 170945, 189454, 194092}
	for seed := range n {
		out = append(out, seed)
	}
	return out
}

// Floats returns the samples of its chunks by Next and by Seek, and replicas of
// Floats are merged as replicas of other iterators.
func TestFloats_EqualTheirSamples(t *testing.T) {
	for _, seed := range seeds(6000) {
		r := rand.New(rand.NewSource(seed))
		replicas := randomReplicas(r)
		b := Bounds{MinTime: math.MinInt64, MaxTime: math.MaxInt64}
		if r.Intn(2) == 0 {
			b.MinTime, b.MaxTime = r.Int63n(300000), r.Int63n(2000000)
		}
		counter := r.Intn(2) == 0
		var its []Replica
		var plain [][]sample
		for _, samples := range replicas {
			samples = floatsOnly(r, samples)
			its = append(its, Replica{Chunks: cut(t, r, samples), Interval: 15000})
			plain = append(plain, within(samples, b))
		}
		merged := FuncCoverage.Merge(its, Options{Mode: modeOf(counter), Bounds: b})
		requireSameSamples(t, drain(FuncCoverage.Merge(lists(plain), Options{Mode: modeOf(counter), Bounds: b})), drain(merged), seed)
		requireSameJumps(t, r, plain[0], seed)
	}
}

func requireSameJumps(t *testing.T, r *rand.Rand, samples []sample, seed int64) {
	t.Helper()
	f := NewFloats(cut(t, r, samples), Bounds{MinTime: math.MinInt64, MaxTime: math.MaxInt64}, nil)
	want := newListIter(samples)
	for {
		var wt, gt chunkenc.ValueType
		if r.Intn(3) > 0 {
			wt, gt = want.Next(), f.Next()
		} else {
			to := r.Int63n(400000)
			if want.i >= 0 {
				to += want.AtT() - 1000
			}
			wt, gt = want.Seek(to), f.Seek(to)
		}
		require.Equal(t, wt, gt, "seed %d", seed)
		if wt == chunkenc.ValNone {
			return
		}
		require.Equal(t, want.AtT(), f.AtT(), "seed %d", seed)
	}
}

func TestFloats_DoNotDecodeChunksOutOfBounds(t *testing.T) {
	l := newListIter(nil)
	for i := range int64(1000) {
		l.s = append(l.s, sample{t: i * 15000, v: float64(i)})
	}
	list := cut(t, rand.New(rand.NewSource(1)), l.s)
	for i := range list.bytes {
		if list.spans[i][1] < 900*15000 {
			list.bytes[i] = []byte("these bytes are no chunk")
		}
	}
	f := NewFloats(list, Bounds{MinTime: 900 * 15000, MaxTime: 950 * 15000}, nil)
	require.Len(t, drain(f), 51)
	require.NoError(t, f.Err())
}

func TestFloats_ReportDamagedChunk(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	list := cut(t, r, []sample{{t: 1, v: 1}})
	list.bytes = append(list.bytes, []byte{0xff, 0xff, 1})
	list.spans = append(list.spans, [2]int64{2, 3})
	f := NewFloats(list, Bounds{MaxTime: 100}, nil)
	require.Len(t, drain(f), 1)
	require.ErrorContains(t, f.Err(), "decode the chunk from 2")
	require.Equal(t, chunkenc.ValNone, f.Next())
	require.Equal(t, chunkenc.ValNone, f.Seek(5))
}
