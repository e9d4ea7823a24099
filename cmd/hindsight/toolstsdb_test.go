package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
)

// importTool runs tools tsdb import and returns its blocks.
func importTool(t *testing.T, want int, args ...string) (rows []importRow, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), append([]string{"tools", "tsdb", "import", "--output=json"}, args...), streams{out: &out, err: &errs})
	require.Equal(t, want, code, errs.String())
	if want == exitOK {
		require.NoError(t, json.Unmarshal(out.Bytes(), &rows))
	}
	return rows, errs.String()
}

// A data directory has blocks and a head; both are imported.
func TestToolsTSDBImport_DataDirectoryOfPrometheus(t *testing.T) {
	data := t.TempDir()
	opts := tsdb.DefaultOptions()
	opts.OutOfOrderTimeWindow = time.Hour.Milliseconds()
	db, err := tsdb.Open(data, slog.New(slog.DiscardHandler), nil, opts, nil)
	require.NoError(t, err)
	const minute = 60_000
	total := uint64(0)
	appendRange := func(from, to int64) {
		app := db.Appender(t.Context())
		for at := from; at < to; at += minute {
			_, err := app.Append(0, labels.FromStrings("__name__", "m"), at, float64(at))
			require.NoError(t, err)
			total++
		}
		require.NoError(t, app.Commit())
	}
	appendRange(0, 6*60*minute)
	require.NoError(t, db.Compact(t.Context()))
	appendRange(6*60*minute, 7*60*minute)
	require.NoError(t, db.Close())

	s := newToolSite(t, "")
	args := []string{"--format=prometheus", data, "--path=" + t.TempDir(), "--upload", `--label=cluster="eu"`, "--objstore.config=" + s.yml}
	rows, stderr := importTool(t, exitOK, args...)
	require.Contains(t, stderr, fmt.Sprintf("%d samples of 1 series read, %d stored", total, total))
	samples := uint64(0)
	for _, r := range rows {
		samples += r.Samples
		require.Equal(t, "verified, uploaded", r.Result)
		id, _ := block.ParseID(r.Block)
		m, err := block.ReadMeta(t.Context(), s.bkt, id)
		require.NoError(t, err)
		require.Equal(t, block.SourceBucketUpload, m.Thanos.Source)
		require.Equal(t, map[string]string{"cluster": "eu"}, m.Thanos.Labels)
	}
	require.Equal(t, total, samples)
	again, _ := importTool(t, exitOK, args...)
	require.Equal(t, rows, again)
}

func TestToolsTSDBImport_Mistakes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "in")
	require.NoError(t, os.WriteFile(file, []byte("a 1\n# EOF\n"), 0o600))
	_, stderr := importTool(t, exitFailed, file, "--path="+t.TempDir())
	require.Contains(t, stderr, "without a timestamp")
	_, stderr = importTool(t, exitUsage, file, "--upload")
	require.Contains(t, stderr, "no --label")
	importTool(t, exitUsage, filepath.Join(t.TempDir(), "none"))
	_, stderr = importTool(t, exitUsage, "--format=prometheus", t.TempDir())
	require.Contains(t, stderr, "neither blocks nor a log")
	_, stderr = importTool(t, exitUsage, t.TempDir())
	require.Contains(t, stderr, "--format=prometheus")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, stderr = importTool(t, exitUsage, file)
	require.Contains(t, stderr, "is empty")
}

// The samples of a block that cannot be read would be missing without a word.
func TestToolsTSDBImport_RefusesUnreadableBlock(t *testing.T) {
	data := blocktest.Dir(t, twoBlocks)
	require.NoError(t, os.WriteFile(filepath.Join(data, id("a"), block.MetaFile), []byte("{"), 0o600))
	path := t.TempDir()
	_, stderr := importTool(t, exitFailed, "--format=prometheus", data, "--path="+path)
	require.Contains(t, stderr, id("a"))
	made, err := os.ReadDir(path)
	require.NoError(t, err)
	require.Empty(t, made)
}
