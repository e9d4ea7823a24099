package headrecovery

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/headblock"
	"github.com/hindsight-io/hindsight/pkg/headlog"
)

// hours is a time that many hours after a boundary of two hours.
func hours(h float64) int64 { return 1_699_999_200_000 + int64(h*3_600_000) }

var external = labels.FromStrings("cluster", "eu", "replica", "0")

// testLog is the log of a Prometheus, in batches of records. The series of a batch come
// before its samples.
type testLog struct {
	series  []record.RefSeries
	samples []record.RefSample
	late    []record.RefSample
}

// testLogs has 3 series with a sample each minute in [1h, 4.5h), and two late ones.
func testLogs() []testLog { return testBatches(21) }

func testBatches(n int) []testLog {
	var out []testLog
	for batch := range n {
		var b testLog
		if batch == 0 {
			for ref := 1; ref <= 3; ref++ {
				b.series = append(b.series, record.RefSeries{Ref: chunks.HeadSeriesRef(ref), Labels: labels.FromStrings("__name__", fmt.Sprint("m", ref))})
			}
		}
		for i := range 210 / n {
			for ref := 1; ref <= 3; ref++ {
				t := hours(1 + float64(batch*210/n+i)/60)
				b.samples = append(b.samples, record.RefSample{Ref: chunks.HeadSeriesRef(ref), T: t, V: float64(t % 1000)})
			}
		}
		if batch == n/3 || batch == 2*n/3 {
			b.late = append(b.late, record.RefSample{Ref: 2, T: hours(0.7+float64(batch)/float64(n)) + 5, V: 5})
		}
		out = append(out, b)
	}
	return out
}

// ship writes a log as the sidecar does, one piece of each kind for each batch, and
// returns the directory of the generation.
func ship(t testing.TB, bkt bucket.Bucket, ext labels.Labels, id ulid.ULID, logs []testLog) string {
	t.Helper()
	put := func(name string, b []byte) {
		require.NoError(t, bkt.Upload(t.Context(), headlog.GenerationDir(headlog.Source(ext), id)+"/"+name, bytes.NewReader(b), int64(len(b))))
	}
	info, err := headlog.EncodeInfo(ext, 1)
	require.NoError(t, err)
	put(headlog.InfoName, info)
	var e record.Encoder
	seq := uint64(0)
	for i, l := range logs {
		piece := func(kind headlog.Kind, rec []byte, samples []record.RefSample) {
			seq++
			n := headlog.Name{Seq: seq, Kind: kind, Segment: i, End: int64(len(rec))}
			for j, s := range samples {
				if j == 0 {
					n.MinTime, n.MaxTime = s.T, s.T
				}
				n.MinTime, n.MaxTime = min(n.MinTime, s.T), max(n.MaxTime, s.T)
			}
			w, err := headlog.NewWriter(true)
			require.NoError(t, err)
			w.Reset()
			require.NoError(t, w.Add(headlog.CodecNone, rec))
			b, err := w.Finish(n, 0)
			require.NoError(t, err)
			put(n.String(), b)
		}
		if len(l.series) > 0 {
			piece(headlog.KindSeries, e.Series(l.series, nil), nil)
		}
		if len(l.samples) > 0 {
			piece(headlog.KindWAL, e.Samples(l.samples, nil), l.samples)
		}
		if len(l.late) > 0 {
			piece(headlog.KindWBL, e.Samples(l.late, nil), l.late)
		}
	}
	return headlog.GenerationDir(headlog.Source(ext), id)
}

// directBlocks returns the blocks that the same log gives when it is read from a data
// directory.
func directBlocks(t testing.TB, ext labels.Labels, logs []testLog) []ulid.ULID {
	t.Helper()
	dir := t.TempDir()
	var e record.Encoder
	for _, kind := range []string{"wal", "wbl"} {
		w, err := wlog.New(promslog.NewNopLogger(), nil, filepath.Join(dir, kind), compression.None)
		require.NoError(t, err)
		for _, l := range logs {
			if kind == "wbl" {
				if len(l.late) > 0 {
					require.NoError(t, w.Log(e.Samples(l.late, nil)))
				}
				continue
			}
			if len(l.series) > 0 {
				require.NoError(t, w.Log(e.Series(l.series, nil)))
			}
			if len(l.samples) > 0 {
				require.NoError(t, w.Log(e.Samples(l.samples, nil)))
			}
		}
		require.NoError(t, w.Close())
	}
	src, err := headblock.OpenDir(dir)
	require.NoError(t, err)
	defer src.Close()
	report, err := headblock.Write(t.Context(), headblock.Config{Source: src, Dir: t.TempDir(), MinTime: src.MinTime(), ExternalLabels: ext})
	require.NoError(t, err)
	require.Zero(t, report.UnknownSamples)
	var out []ulid.ULID
	for _, m := range report.Blocks {
		out = append(out, m.ULID)
	}
	return out
}
