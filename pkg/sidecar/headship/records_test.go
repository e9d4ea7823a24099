package headship

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/headlog"
)

func TestPeek_ReadsTypeOfCompressedRecord(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var enc record.Encoder
	for n := range 300 {
		var ss []record.RefSample
		for range n + 1 {
			ss = append(ss, record.RefSample{Ref: chunks.HeadSeriesRef(rng.Int64N(1 << 40)), T: rng.Int64(), V: rng.Float64()})
		}
		rec := enc.Samples(ss, nil)
		typ, known := peek(headlog.CodecSnappy, snappy.Encode(nil, rec))
		require.True(t, known)
		require.Equal(t, record.Samples, typ)
		require.Equal(t, classSamples, classOf(typ))
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
	f.Add(make([]byte, 100))
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
	})
}
