package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/blockstat"
)

// costRow returns the row of a name.
func costRow(t *testing.T, rows []blockstat.Row, by, name string) blockstat.Row {
	t.Helper()
	for _, r := range rows {
		if r.By == by && r.Name == name {
			return r
		}
	}
	require.Fail(t, "no row", "%s %s in %v", by, name, rows)
	return blockstat.Row{}
}

func TestToolsBlockAnalyze_DirectoryAndBucketAgree(t *testing.T) {
	s := newToolSite(t, twoBlocks)
	analyze := func(args ...string) []blockstat.Row {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"tools", "block", "analyze", "--output=json"}, args...), streams{out: &out, err: &errs})
		require.Equal(t, exitOK, code, errs.String())
		var rows []blockstat.Row
		require.NoError(t, json.Unmarshal(out.Bytes(), &rows))
		return rows
	}
	rows := analyze(filepath.Join(s.dir, id("b")))
	require.Equal(t, rows, analyze(id("b"), "--objstore.config="+s.yml))
	require.EqualValues(t, 2, costRow(t, rows, "metric", "up").Series)
	require.EqualValues(t, 2, costRow(t, rows, "label", "job").Values)
	require.EqualValues(t, 1, costRow(t, rows, "label_value", "job=k").Series)

	var out, errs bytes.Buffer
	require.Equal(t, exitUsage, run(t.Context(), []string{"tools", "block", "analyze", "x"}, streams{out: &out, err: &errs}))
	require.Equal(t, exitUsage, run(t.Context(), []string{"tools", "block", "analyze", id("none"), "--objstore.config=" + s.yml}, streams{out: &out, err: &errs}))
	require.Contains(t, errs.String(), id("none")+" is no complete block of the bucket")
}

func TestToolsBucketCost(t *testing.T) {
	s := newToolSite(t, twoBlocks)
	rows := list[blockstat.Row](s, exitOK, "cost", "--tenant-label=cluster", "--label=job", "--label=cluster")
	require.EqualValues(t, 3, costRow(t, rows, "total", "").Series)
	require.EqualValues(t, 2, costRow(t, rows, "tenant", "us").Series)
	require.EqualValues(t, 3, costRow(t, rows, "metric", "up").Series)
	require.EqualValues(t, 2, costRow(t, rows, "label_value", "job=j").Series)
	require.EqualValues(t, 1, costRow(t, rows, "label_value", "cluster=eu").Series)
	require.Contains(t, s.ok("cost"), "CHUNK BYTES")
	rows = list[blockstat.Row](s, exitOK, "cost", "--exclude-delete", "--by=tenant")
	require.EqualValues(t, 1, costRow(t, rows, "total", "").Series)

	require.NoError(t, os.Truncate(filepath.Join(s.dir, id("a"), "index"), 100))
	rows = list[blockstat.Row](s, exitFailed, "cost", "--by=metric")
	require.EqualValues(t, 2, costRow(t, rows, "total", "").Series, "the other block counts")
}
