package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
)

// TestDeleteSeries goes through the life of a request: what it would delete, the request,
// its cancellation, and what is left before and after a compaction.
func TestDeleteSeries(t *testing.T) {
	s := newToolSite(t, `
block a range=0s..2h labels={cluster="eu"}
  secret{user="bob"}  0s..2h/1m:1+1
  up{job="x"}         0s..2h/1m:1+1
block b range=0s..2h labels={cluster="us"}
  secret{user="bob"}  0s..2h/1m:1+1
`)
	before := s.tree()
	rows := list[leftRow](s, exitOK, "delete-series", `--match=secret{cluster="eu"}`, "--max-time=1970-01-01T00:10:00Z", "--dry-run")
	require.Len(t, rows, 1)
	require.Equal(t, blocktest.ID("a").String(), rows[0].Name)
	require.Equal(t, uint64(1), rows[0].Series)
	require.NotZero(t, rows[0].Samples)
	require.Empty(t, list[requestRow](s, exitOK, "delete-series", "--list"))
	require.Equal(t, before, s.tree())

	made := list[requestRow](s, exitOK, "delete-series", "--match=secret", "--tenant=a", "--tenant-label=cluster", "--details=asked by bob", "--yes")
	require.Len(t, made, 1)
	require.Equal(t, "pending", made[0].State)
	require.Equal(t, "cancelled", list[requestRow](s, exitOK, "delete-series", "--cancel="+made[0].Request)[0].State)
	made = list[requestRow](s, exitOK, "delete-series", `--match={user="bob",cluster="eu"}`, "--delay=0s", "--yes")
	status := "--status=" + made[0].Request
	require.Equal(t, "to be rewritten by the compactor", list[leftRow](s, exitOK, "delete-series", status)[0].Left)
	require.Len(t, list[requestRow](s, exitOK, "delete-series", "--list"), 2)

	code, out, errs := s.run("delete-series", "--match=secret")
	require.Equal(t, exitUsage, code, "nothing was asked for but the list")
	require.Contains(t, out, blocktest.ID("b").String())
	require.Contains(t, errs, "nothing was changed: give --yes")

	for _, wrong := range [][]string{
		{}, {"--match=up", "--yes", "--dry-run"}, {"--match=up", "--list"}, {"--match={a=~'.*'}"}, {"--status=x"}, {"--status=01ARZ3NDEKTSV4RRFFQ69G5FAV"}, {"--cancel=01ARZ3NDEKTSV4RRFFQ69G5FAV"}, {"--match=up", "--delay=-1s"},
	} {
		code, _, errs := s.run(append([]string{"delete-series"}, wrong...)...)
		require.Equal(t, exitUsage, code, "%v", wrong)
		require.NotEmpty(t, errs)
	}
}
