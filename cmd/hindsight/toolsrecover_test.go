package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/headlog"
)

// headRecords returns the records of a head with one sample at the time 1000.
func headRecords() (series, samples []byte) {
	var e record.Encoder
	return e.Series([]record.RefSeries{{Ref: 1, Labels: labels.FromStrings("__name__", "m")}}, nil),
		e.Samples([]record.RefSample{{Ref: 1, T: 1000, V: 7}}, nil)
}

// shipHead writes a head log into the directory of a FILESYSTEM bucket.
func shipHead(t *testing.T, bkt string, ext labels.Labels) {
	dir := filepath.Join(bkt, headlog.GenerationDir(headlog.Source(ext), ulid.MustNew(1, nil)))
	require.NoError(t, os.MkdirAll(dir, 0o755))
	info, err := headlog.EncodeInfo(ext, 1)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, headlog.InfoName), info, 0o644))
	w, err := headlog.NewWriter(true)
	require.NoError(t, err)
	piece := func(n headlog.Name, rec []byte) {
		w.Reset()
		require.NoError(t, w.Add(headlog.CodecNone, rec))
		b, err := w.Finish(n, 0)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, n.String()), b, 0o644))
	}
	series, samples := headRecords()
	piece(headlog.Name{Seq: 1, Kind: headlog.KindSeries, End: 1}, series)
	piece(headlog.Name{Seq: 2, Kind: headlog.KindWAL, End: 1, MinTime: 1000, MaxTime: 1000}, samples)
}

// recoverTool runs tools recover on a FILESYSTEM bucket and returns its list.
func recoverTool(t *testing.T, bkt string, args ...string) (rows []recoverRow, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	full := append([]string{"tools", "recover", "--output=json", "--objstore.config=type: FILESYSTEM\nconfig: {directory: " + bkt + "}"}, args...)
	require.Equal(t, exitOK, run(t.Context(), full, streams{out: &out, err: &errs}), errs.String())
	require.NoError(t, json.Unmarshal(out.Bytes(), &rows), out.String())
	return rows, errs.String()
}

func TestToolsRecover_ListsAndRecoversHeadsOfTheBucket(t *testing.T) {
	bkt := t.TempDir()
	shipHead(t, bkt, labels.FromStrings("cluster", "a"))
	shipHead(t, bkt, labels.FromStrings("cluster", "b"))
	rows, _ := recoverTool(t, bkt, "--yes")
	require.Len(t, rows, 2)
	for _, r := range rows {
		require.Equal(t, []string{"growing", "", "1970-01-01T00:00:01Z"}, []string{r.State, r.Result, r.From})
		require.EqualValues(t, 1, r.LogBytes, "both pieces are of the first byte of the segment")
	}
	rows, stderr := recoverTool(t, bkt, "--older-than=0s")
	require.Equal(t, "lost", rows[0].State)
	require.Contains(t, stderr, "with --yes, the command recovers 2 of these heads")
	source := headlog.Source(labels.FromStrings("cluster", "a"))
	rows, _ = recoverTool(t, bkt, "--older-than=0s", "--yes", "--source="+source)
	require.Len(t, rows, 1)
	require.Equal(t, "recovered", rows[0].Result)
	require.EqualValues(t, 1, rows[0].Samples)
	require.Len(t, rows[0].Blocks, 1)
	_, err := block.ReadMetaDir(filepath.Join(bkt, rows[0].Blocks[0]))
	require.NoError(t, err)
	rows, _ = recoverTool(t, bkt, "--dry-run")
	require.Len(t, rows, 1, "the recovered head is gone")
	require.Equal(t, map[string]string{"cluster": "b"}, rows[0].Labels)
}

func TestToolsRecover_RecoversADataDirectory(t *testing.T) {
	bkt, dir := t.TempDir(), t.TempDir()
	w, err := wlog.New(promslog.NewNopLogger(), nil, filepath.Join(dir, "wal"), compression.Snappy)
	require.NoError(t, err)
	series, samples := headRecords()
	require.NoError(t, w.Log(series, samples))
	require.NoError(t, w.Close())
	args := []string{"--tsdb.path=" + dir, `--label=cluster="a"`}
	rows, _ := recoverTool(t, bkt, append(args, "--dry-run")...)
	require.Equal(t, "not uploaded", rows[0].Result)
	require.EqualValues(t, 1, rows[0].Samples)
	rows, _ = recoverTool(t, bkt, args...)
	require.Equal(t, "recovered", rows[0].Result)
	_, err = block.ReadMetaDir(filepath.Join(bkt, rows[0].Blocks[0]))
	require.NoError(t, err)
	again, _ := recoverTool(t, bkt, args...)
	require.Equal(t, rows[0].Blocks, again[0].Blocks)

	var out, errs bytes.Buffer
	require.Equal(t, exitUsage, run(t.Context(), []string{"tools", "recover", "--tsdb.path=" + dir}, streams{out: &out, err: &errs}))
	require.Contains(t, errs.String(), "no external labels")
}

func TestToolsRecover_Forms(t *testing.T) {
	bkt := t.TempDir()
	shipHead(t, bkt, labels.FromStrings("cluster", "a"))
	for form, want := range map[string]string{"table": `cluster="a"`, "yaml": "cluster: a"} {
		var out, errs bytes.Buffer
		args := []string{"tools", "recover", "--output=" + form, "--objstore.config=type: FILESYSTEM\nconfig: {directory: " + bkt + "}"}
		require.Equal(t, exitOK, run(t.Context(), args, streams{out: &out, err: &errs}), errs.String())
		require.Contains(t, out.String(), want)
	}
}
