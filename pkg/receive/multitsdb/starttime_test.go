package multitsdb

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Start timestamps of floats and histograms are stored when asked for, also over
// a restart, and come out of the store with the samples.
func TestStartTimestamps(t *testing.T) {
	now := time.Now().UnixMilli()
	symbols := writev2.NewSymbolTable()
	series := func(name string) []uint32 {
		return symbols.SymbolizeLabels(labels.FromStrings("__name__", name, "job", "j"), nil)
	}
	h := writev2.FromIntHistogram(0, now, tsdbutil.GenerateTestHistogram(1))
	h.StartTimestamp = now - 5000
	req := &writev2.Request{Timeseries: []writev2.TimeSeries{
		{LabelsRefs: series("floats"), Samples: []writev2.Sample{
			{Timestamp: now, Value: 1, StartTimestamp: now - 3000}, {Timestamp: now + 1, Value: 2, StartTimestamp: now - 3000},
			{Timestamp: now + 2, Value: 1, StartTimestamp: now + 1},
		}},
		{LabelsRefs: series("histograms"), Histograms: []writev2.Histogram{h}},
	}}
	req.Symbols = symbols.Symbols()
	raw, err := req.Marshal()
	require.NoError(t, err)

	f := func(stored bool, want map[string][]int64) {
		dir := t.TempDir()
		keep := func(c *Config) { c.StartTimestamps = stored }
		d := openDB(t, dir, keep)
		buf := remotewrite.NewBuffer(len(raw))
		buf.B = append(buf.B, raw...)
		b, err := remotewrite.TranscodeV2(buf, 1<<20)
		require.NoError(t, err)
		require.NoError(t, d.Write(t.Context(), "a", b, nil))
		b.Close()
		require.Equal(t, want, startTimes(t, d))
		require.NoError(t, d.Close(t.Context()))
		require.Equal(t, want, startTimes(t, openDB(t, dir, keep)), "after a restart")
	}
	f(true, map[string][]int64{"floats": {now - 3000, now - 3000, now + 1}, "histograms": {now - 5000}})
	f(false, map[string][]int64{"floats": {0, 0, 0}, "histograms": {0}})
}

// startTimes reads the start timestamps by metric name.
func startTimes(t *testing.T, d *DB) map[string][]int64 {
	t.Helper()
	out := map[string][]int64{}
	for _, s := range d.Stores() {
		set := s.Select(t.Context(), &storeapi.Request{
			MinTime: math.MinInt64, MaxTime: math.MaxInt64,
			Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+")},
		})
		for set.Next() {
			name := set.At().Labels.Get("__name__")
			for _, c := range set.At().Chunks {
				chunk, err := chunkenc.FromData(c.Raw.Encoding, c.Raw.Bytes)
				require.NoError(t, err)
				it := chunk.Iterator(nil)
				for it.Next() != chunkenc.ValNone {
					out[name] = append(out[name], it.AtST())
				}
			}
		}
		require.NoError(t, set.Err())
		require.NoError(t, set.Close())
	}
	return out
}
