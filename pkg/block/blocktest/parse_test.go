package blocktest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
)

func TestParse(t *testing.T) {
	spec, err := blocktest.Parse(`
# A comment.
block a labels={cluster="eu",replica="0"} level=2 sources=p,q hints=from-out-of-order tombstones=3
  up{job="x"}   0s..1h/15s:1+0.5
  up{job="y"}   0s:1 15s:stale | 30s:3

meta b range=-1h..2h labels={x="1"} resolution=5m source=compactor uploaded=3h series=5 samples=7 failed=true index-size=9
mark a no-compact at=1h reason=index-size-exceeding details=big
`)
	require.NoError(t, err)
	require.Len(t, spec.Blocks, 2)
	a, b := spec.Blocks[0], spec.Blocks[1]
	require.Equal(t, int64(0), a.Meta.MinTime)
	require.Equal(t, int64(7_200_000), a.Meta.MaxTime)
	require.Equal(t, 2, a.Meta.Compaction.Level)
	require.Len(t, a.Meta.Compaction.Sources, 2)
	require.Len(t, a.Series[0].Chunks, 2, "240 samples")
	require.Len(t, a.Series[1].Chunks, 2, "cut by hand")
	require.True(t, b.MetaOnly)
	require.Equal(t, int64(-3_600_000), b.Meta.MinTime)
	require.Equal(t, block.Resolution5m, b.Meta.Resolution())
	require.Equal(t, []blocktest.Mark{{Block: "a", Kind: "no-compact", Reason: "index-size-exceeding", Details: "big", At: spec.Marks[0].At}}, spec.Marks)
	require.Equal(t, int64(3600), spec.Marks[0].At.Unix())

	f := func(text, want string) {
		t.Helper()
		_, err := blocktest.Parse(text)
		require.ErrorContains(t, err, want)
	}
	f("  up 0s:1", "before the first block")
	f("block", "needs a name")
	f("block a colour=blue", "unknown key")
	f("block a range=1h", "from..to")
	f("block a\n up 0s", "time:value")
	f("block a\n up 0s:x", "line 2")
	f("block a\n up 0s..1h/0s:1", "bad step")
	f("block a\n up{ 0s:1", "line 2")
	f("mark a", "mark <block> <kind>")
}
