package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

const ruleBlocks = `
block many range=0h..2h labels={cluster="eu"} level=1
  up{job="j"}       0h..2h/1m:1+1
  debug_a{job="j"}  0h..2h/1m:1+1
  debug_b{job="j"}  0h..2h/1m:1+1
  tmp{job="k"}      0h..2h/1m:1+1
block none range=2h..4h labels={cluster="eu"} level=1
  up{job="j"}  2h..4h/1m:1+1
block legal range=4h..6h labels={cluster="eu",tenant_id="legal"} level=1
  debug_a{job="j"}  4h..6h/1m:1+1
block all range=6h..8h labels={cluster="eu",tenant_id="x"} level=1
  up{job="j"}  6h..8h/1m:1+1
`

const ruleConfig = `
rules:
- {name: audit, tenant: legal, raw: 0d}
- {name: x, tenant: x, raw: 7d, 5m: 7d, 1h: 7d}
- {name: debug, match: '{__name__=~"debug_.*"}', raw: 7d, 5m: 7d, 1h: 7d}
- {name: tmp, match: 'tmp', raw: 1d, 5m: 1d, 1h: 1d}
`

// The list has the series which the compactor's rewrite removes, by block and rule; only
// what the command itself would do is marked, and counts for the exit code.
func TestToolsBucketRetention_ListsSeriesOfRules(t *testing.T) {
	s := newToolSite(t, ruleBlocks)
	args := []string{"retention", "--retention.config=" + ruleConfig, "--consistency-delay=0s"}
	type want struct {
		block, job, rule string
		series           uint64
		result           string
	}
	short := func(rows []changeRow) (out []want) {
		for _, r := range rows {
			out = append(out, want{r.Block, r.Job, r.Rule, r.Series, r.Result})
		}
		return out
	}
	before := s.tree()
	rows := list[changeRow](s, exitUsage, args...)
	require.Equal(t, []want{
		{id("all"), string(plan.MarkDeletion), "", 0, "not done"},
		{id("many"), string(plan.Rewrite), "debug", 2, "left to the compactor"},
		{id("many"), string(plan.Rewrite), "tmp", 1, "left to the compactor"},
	}, short(rows))
	require.Equal(t, "2 of 4 series are out of the raw retention of the rule, 50.0% of the chunks", rows[1].Reason)
	require.Positive(t, rows[2].Bytes)
	require.InDelta(t, 2*rows[2].Bytes, rows[1].Bytes, 2)
	require.Equal(t, rows, list[changeRow](s, exitOK, append(args, "--dry-run")...))
	require.Equal(t, before, s.tree())

	table := s.ok(append(args, "--dry-run")...)
	require.Regexp(t, `BLOCK +JOB +RULE +SERIES +BYTES +REASON +RESULT`, table)
	require.Regexp(t, id("many")+` +rewrite +debug +2 +\d+ +2 of 4 series`, table)
	require.Regexp(t, id("all")+` +mark-deletion +- +- +- +out of`, table)
	require.Contains(t, s.ok(append(args, "--dry-run", "--output=yaml")...), "rule: debug\n  series: 2\n")

	// With --yes the command marks, and does not search the indexes.
	require.Equal(t, []want{{id("all"), string(plan.MarkDeletion), "", 0, "marked"}}, short(list[changeRow](s, exitOK, append(args, "--yes")...)))
	require.Len(t, list[changeRow](s, exitOK, args...), 2, "series alone are nothing that the command would do")
	euOnly := "--selector.relabel-config=[{action: keep, source_labels: [tenant_id], regex: legal}]"
	require.Empty(t, list[changeRow](s, exitOK, append(args, euOnly)...))
}

// The compactor leaves a few series in a block; a rule waits for the coarser data that it
// promises; and a block whose index cannot be read does not hide the others.
func TestToolsBucketRetention_SaysWhySeriesStay(t *testing.T) {
	var text strings.Builder
	text.WriteString("block big range=0h..2h labels={cluster=\"eu\"} level=1\n  debug_a{job=\"j\"}  0h..2h/1m:1+1\n")
	for _, n := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		text.WriteString("  up{n=\"" + n + "\"}  0h..2h/1m:1+1\n")
	}
	s := newToolSite(t, text.String()+ruleBlocks)
	args := []string{"retention", "--retention.config={rules: [{name: debug, match: debug_a, raw: 7d, 5m: 7d, 1h: 7d}]}", "--consistency-delay=0s"}
	rows := list[changeRow](s, exitOK, args...)
	require.Len(t, rows, 3)
	for _, r := range rows {
		if r.Block == id("big") {
			require.Equal(t, "kept: the compactor rewrites a block from 5% of its chunks on", r.Result)
		} else {
			require.Equal(t, "left to the compactor", r.Result)
		}
	}
	waits := "--retention.config={rules: [{name: debug, match: debug_a, raw: 7d}]}"
	require.Empty(t, list[changeRow](s, exitOK, "retention", waits, "--consistency-delay=0s"))

	require.NoError(t, os.Truncate(filepath.Join(s.dir, id("many"), block.IndexFile), 100))
	code, out, errs := s.run(args...)
	require.Equal(t, exitFailed, code)
	require.Contains(t, errs, "scan index of block "+id("many"))
	require.Contains(t, out, id("legal"))
}

// A mistyped directory is an error of a command that reads, not an empty bucket.
func TestToolsBucket_DirectoryDoesNotExist(t *testing.T) {
	s := newToolSite(t, "")
	missing := filepath.Join(s.dir, "typo")
	s.yml = "type: FILESYSTEM\nconfig:\n  directory: " + missing
	for _, args := range [][]string{{"ls"}, {"inspect"}, {"cleanup", "--yes"}, {"retention"}, {"cost"}, {"delete-series", "--list"}, {"web"}} {
		code, _, errs := s.run(args...)
		require.Equal(t, exitFailed, code, "%v %s", args, errs)
		require.Contains(t, errs, missing)
		require.NoDirExists(t, missing)
	}
	local := blocktest.Dir(t, "block a range=0h..2h level=1\n  up{job=\"j\"}  0h..2h/1m:1+1\n")
	s.ok("upload-blocks", "--path="+local, `--label=cluster="eu"`)
	require.Contains(t, s.ok("ls"), id("a"))
}
