package interop

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
)

const (
	minute = int64(time.Minute / time.Millisecond)
	hour   = 60 * minute
	day    = 24 * hour
)

// epoch is the start of a window of 14 days that ended weeks ago.
func epoch() int64 {
	now := time.Now().UnixMilli()
	return now - now%(14*day) - 28*day
}

// writeBlock makes a block of Prometheus with one sample a minute from mint to maxt: counters
// that restart, gauges, a series that ends, and native histograms of both kinds.
func writeBlock(t *testing.T, dir string, mint, maxt int64) {
	t.Helper()
	w, err := tsdb.NewBlockWriter(promslog.NewNopLogger(), dir, maxt-mint)
	require.NoError(t, err)
	app := w.Appender(t.Context())
	start := epoch()
	for at := mint; at < maxt; at += minute {
		n := (at - start) / minute
		if n%2000 > 1900 {
			continue // a gap of more than an hour
		}
		for i := range int64(3) {
			_, err := app.Append(0, labels.FromStrings("__name__", "requests_total", "path", fmt.Sprint(i)), at+i, float64(n%(1000+700*i)*(i+1)))
			require.NoError(t, err)
			_, err = app.Append(0, labels.FromStrings("__name__", "temperature", "room", fmt.Sprint(i)), at+i, math.Sin(float64(n)/500)*float64(10+i))
			require.NoError(t, err)
		}
		_, err := app.AppendHistogram(0, labels.FromStrings("__name__", "latency"), at, tsdbutil.GenerateTestHistogram(n%1500), nil)
		require.NoError(t, err)
		_, err = app.AppendHistogram(0, labels.FromStrings("__name__", "size"), at, nil, tsdbutil.GenerateTestGaugeFloatHistogram(n%50))
		require.NoError(t, err)
		v := float64(n)
		if n%400 == 399 {
			v = math.Float64frombits(value.StaleNaN)
		}
		_, err = app.Append(0, labels.FromStrings("__name__", "ends"), at, v)
		require.NoError(t, err)
		if n%500 == 0 {
			require.NoError(t, app.Commit())
			app = w.Appender(t.Context())
		}
	}
	require.NoError(t, app.Commit())
	id, err := w.Flush(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.Close())
	// The range of a block of Prometheus is that of its window.
	path := filepath.Join(dir, id.String())
	m, err := block.ReadMetaDir(path)
	require.NoError(t, err)
	m.MinTime, m.MaxTime = mint, maxt
	require.NoError(t, block.WriteMetaDir(path, m))
}

// localBlocks makes seven blocks of two days, which fill a window, one more of the next window,
// and five of two hours after them.
func (s *site) localBlocks(name string) string {
	s.Helper()
	dir := s.mkdir(name)
	at := epoch()
	for range 8 {
		writeBlock(s.T, dir, at, at+2*day)
		at += 2 * day
	}
	for range 5 {
		writeBlock(s.T, dir, at, at+2*hour)
		at += 2 * hour
	}
	return dir
}

// blocksOf returns what each block of a bucket says about itself, in order.
func blocksOf(t *testing.T, dir string) (out []string) {
	t.Helper()
	for _, m := range metasOf(t, dir) {
		samples := m.Stats.NumSamples
		if m.Resolution() > 0 {
			samples = 0 // a window that two chunks share is counted twice by Thanos
		}
		out = append(out, fmt.Sprintf("%s %d+%dh res=%dm level=%d series=%d samples=%d sources=%d", m.ExternalLabels(), (m.MinTime-epoch())/hour, (m.MaxTime-m.MinTime)/hour,
			m.Resolution()/minute, m.Compaction.Level, m.Stats.NumSeries, samples, len(m.Compaction.Sources)))
	}
	slices.Sort(out)
	return out
}

// metasOf reads the meta.json of all blocks of a bucket that have no deletion mark.
func metasOf(t *testing.T, dir string) (out []*block.Meta) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if _, err := os.Stat(filepath.Join(path, block.DeletionMarkFile)); err == nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(path, block.MetaFile)); err != nil {
			continue // under way
		}
		m, err := block.ReadMetaDir(path)
		require.NoError(t, err)
		out = append(out, m)
	}
	return out
}

// objectsOf lists the files of a bucket with their sizes.
func objectsOf(t *testing.T, dir string) (out []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		out = append(out, fmt.Sprintf("%s %d", strings.TrimPrefix(path, dir), info.Size()))
		return nil
	}))
	return out
}

// columnsOf lists the columns objects of a bucket.
func columnsOf(t *testing.T, dir string) (out []string) {
	t.Helper()
	for _, object := range objectsOf(t, dir) {
		if strings.Contains(object, "/columns-v1-") {
			out = append(out, object)
		}
	}
	return out
}

// upload ships local blocks into a bucket by the tool of a program.
func (s *site) upload(p program, bucket, dir string, labels ...string) {
	s.Helper()
	args := []string{"tools", "bucket", "upload-blocks", bucket, "--path=" + dir}
	for _, l := range labels {
		args = append(args, "--label="+l)
	}
	s.call(p, args...)
}

// compact runs the compactor of a program over a bucket until there is nothing to do.
func (s *site) compact(p program, bucket, name string, args ...string) {
	s.Helper()
	at := s.address()
	s.call(p, append([]string{
		"compact", bucket, "--data-dir=" + s.mkdir(name), "--http-address=" + at.http, "--consistency-delay=0s", "--delete-delay=0s",
	}, args...)...)
}
