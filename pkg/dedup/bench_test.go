package dedup

import (
	"fmt"
	"math/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// day is a counter of 24 h, scraped every 15 s with jitter, in chunks of 120 samples.
func day(b *testing.B, r *rand.Rand, offset int64, gaps bool) *xorList {
	l := &xorList{}
	var e xorcolumn.Encoder
	e.Reset(nil)
	v, first, last, n := 0.0, int64(0), int64(0), 0
	flush := func() {
		l.bytes, l.spans = append(l.bytes, append([]byte(nil), e.Finish()...)), append(l.spans, [2]int64{first, last})
		e.Reset(nil)
		n = 0
	}
	for i := range int64(5760) {
		v += float64(r.Intn(100))
		if gaps && i%480 >= 100 && i%480 < 120 {
			continue
		}
		last = offset + i*15000 + r.Int63n(10)
		if n == 0 {
			first = last
		}
		e.Append(last, v)
		if n++; n == 120 {
			flush()
		}
	}
	if n > 0 {
		flush()
	}
	require.NotEmpty(b, l.bytes)
	return l
}

// Two replicas of a day cost about as much as decoding one of them.
func BenchmarkDecode(b *testing.B) {
	r := rand.New(rand.NewSource(1))
	all := Bounds{MaxTime: 5760 * 15000}
	perSample := func(b *testing.B) {
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/5760, "ns/sample")
	}
	one := day(b, r, 0, false)
	b.Run("bare", func(b *testing.B) {
		b.ReportAllocs()
		var dst Samples
		for b.Loop() {
			dst.T, dst.V = dst.T[:0], dst.V[:0]
			require.NoError(b, dst.AppendChunks(one, all))
		}
		perSample(b)
	})
	for _, gaps := range []bool{false, true} {
		for _, mode := range []Mode{Values, Counters} {
			for _, n := range []int{2, 3} {
				b.Run(fmt.Sprintf("gaps=%v/mode=%d/replicas=%d", gaps, mode, n), func(b *testing.B) {
					replicas := make([]Replica, n)
					for i := range replicas {
						replicas[i] = Replica{Chunks: day(b, r, int64(i)*4000, gaps && i == 0), Interval: 15000}
					}
					b.ReportAllocs()
					var d Decoder
					var dst Samples
					for b.Loop() {
						dst.T, dst.V = dst.T[:0], dst.V[:0]
						require.NoError(b, d.Decode(FuncCoverage, replicas, Options{Mode: mode, Bounds: all}, 0, &dst))
					}
					perSample(b)
				})
			}
		}
	}
}
