package headship

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/headlog"
)

// randomRecord returns a record of Prometheus's encoder and the range of its times.
func randomRecord(rng *rand.Rand) ([]byte, times) {
	want := noTimes()
	enc := record.Encoder{EnableSTStorage: rng.IntN(2) == 0}
	ts := func() int64 {
		v := rng.Int64N(4)
		if rng.IntN(3) == 0 {
			v = rng.Int64() - rng.Int64()
			v >>= rng.IntN(60)
		}
		want.add(v)
		return v
	}
	n := 1 + rng.IntN(20)
	ref := func() chunks.HeadSeriesRef { return chunks.HeadSeriesRef(rng.Int64N(1 << 40)) }
	custom := rng.IntN(2) == 0
	hist := func(i int) *histogram.Histogram {
		if custom {
			return tsdbutil.GenerateTestCustomBucketsHistogram(int64(i))
		}
		return tsdbutil.GenerateTestHistogram(int64(i))
	}
	switch rng.IntN(3) {
	case 0:
		var ss []record.RefSample
		for range n {
			ss = append(ss, record.RefSample{Ref: ref(), ST: rng.Int64N(3), T: ts(), V: rng.Float64()})
		}
		return enc.Samples(ss, nil), want
	case 1:
		var ss []record.RefHistogramSample
		for i := range n {
			ss = append(ss, record.RefHistogramSample{Ref: ref(), ST: rng.Int64N(3), T: ts(), H: hist(i)})
		}
		if custom {
			return enc.CustomBucketsHistogramSamples(ss, nil), want
		}
		b, _ := enc.HistogramSamples(ss, nil)
		return b, want
	default:
		var ss []record.RefFloatHistogramSample
		for i := range n {
			ss = append(ss, record.RefFloatHistogramSample{Ref: ref(), ST: rng.Int64N(3), T: ts(), FH: hist(i).ToFloat(nil)})
		}
		if custom {
			return enc.CustomBucketsFloatHistogramSamples(ss, nil), want
		}
		b, _ := enc.FloatHistogramSamples(ss, nil)
		return b, want
	}
}

func TestSampleTimes_AreThoseOfPrometheusEncoder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 3000 {
		rec, want := randomRecord(rng)
		got := noTimes()
		require.NoError(t, sampleTimes(rec, &got))
		require.Equal(t, want, got)
		typ, known := peek(headlog.CodecSnappy, snappy.Encode(nil, rec))
		require.True(t, known)
		require.Equal(t, record.Type(rec[0]), typ)
		require.Equal(t, classSamples, classOf(typ))
		require.Error(t, sampleTimes(rec[:len(rec)-1], &got), "a byte is missing")
	}
}

// The reader returns what Prometheus's reader returns, for each length of the file that a
// writer may have reached.
func TestSegmentReader_ReturnsWholeRecordsOfEachPrefix(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for _, c := range compression.Types() {
		dir := t.TempDir()
		w, err := wlog.NewSize(nil, nil, dir, 8*pageSize, c)
		require.NoError(t, err)
		var want [][]byte
		for range 120 {
			rec := bytes.Repeat([]byte{byte(rng.IntN(256)), byte(rng.IntN(256))}, 1+rng.IntN(50))
			if rng.IntN(20) == 0 {
				rec = make([]byte, rng.IntN(2*pageSize)+1)
				for i := range rec {
					rec[i] = byte(rng.Uint32())
				}
			}
			want = append(want, rec)
			require.NoError(t, w.Log(rec))
		}
		require.NoError(t, w.Close())
		var got [][]byte
		dec, err := newDecoder()
		require.NoError(t, err)
		first, last, err := wlog.Segments(dir)
		require.NoError(t, err)
		for n := first; n <= last; n++ {
			b, err := os.ReadFile(wlog.SegmentName(dir, n))
			require.NoError(t, err)
			var r segmentReader
			end := int64(0)
			for limit := int64(0); limit <= int64(len(b)); limit += int64(1 + rng.IntN(3000)) {
				r.reset(bytes.NewReader(b), end, limit)
				for {
					codec, payload, err := r.next()
					if err != nil {
						require.True(t, errors.Is(err, io.EOF) || errors.Is(err, errPartial), err)
						break
					}
					rec, err := dec.decode(codec, payload)
					require.NoError(t, err)
					got = append(got, bytes.Clone(rec))
				}
				end = r.end
			}
			r.reset(bytes.NewReader(b), end, int64(len(b)))
			for {
				codec, payload, err := r.next()
				if err != nil {
					require.ErrorIs(t, err, io.EOF)
					break
				}
				rec, err := dec.decode(codec, payload)
				require.NoError(t, err)
				got = append(got, bytes.Clone(rec))
			}
		}
		require.Equal(t, want, got)
	}
}

func FuzzSegment(f *testing.F) {
	f.Add([]byte{1, 0, 1, 0, 0, 0, 0, 5})
	rec, _ := randomRecord(rand.New(rand.NewPCG(3, 3)))
	f.Add(rec)
	f.Fuzz(func(t *testing.T, b []byte) {
		var r segmentReader
		r.reset(bytes.NewReader(b), 0, int64(len(b)))
		for {
			if _, _, err := r.next(); err != nil {
				break
			}
		}
		if r.end > int64(len(b)) {
			t.Fatal("read beyond the end")
		}
		got := noTimes()
		_ = sampleTimes(b, &got)
	})
}
