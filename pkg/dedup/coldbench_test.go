package dedup

import (
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkDecodeCold decodes replicas of many series in turn, so that their chunks are in
// no cache of the core. Times are the tenth percentile, because other programs disturb
// the rest.
func BenchmarkDecodeCold(b *testing.B) {
	const series = 256
	r := rand.New(rand.NewSource(1))
	var all [series][]Replica
	var payloads [][]byte
	for i := range all {
		for k := range int64(2) {
			l := day(b, r, k*4000, true)
			all[i] = append(all[i], Replica{Chunks: l, Interval: 15000})
			payloads = append(payloads, l.bytes...)
		}
	}
	// Chunks of one series are in several blocks, and so at different places in memory.
	where := make([][]byte, len(payloads))
	for _, i := range r.Perm(len(payloads)) {
		where[i] = slices.Clone(payloads[i])
	}
	for i := range all {
		for _, rep := range all[i] {
			l := rep.Chunks.(*xorList)
			n := copy(l.bytes, where)
			where = where[n:]
		}
	}
	var d Decoder
	var dst Samples
	var took []float64
	o := Options{Mode: Counters, Bounds: Bounds{MaxTime: 5760 * 15000}}
	for i := 0; b.Loop(); i++ {
		dst.T, dst.V = dst.T[:0], dst.V[:0]
		begin := time.Now()
		require.NoError(b, d.Decode(FuncCoverage, all[i%series], o, 0, &dst))
		took = append(took, float64(time.Since(begin).Nanoseconds())/float64(len(dst.T)))
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/10], "ns/sample")
}
