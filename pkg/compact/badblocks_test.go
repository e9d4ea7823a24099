package compact_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/compact"
)

// edit changes a meta.json.
func edit(f func(m map[string]any)) func([]byte) []byte {
	return func(data []byte) []byte {
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			return data
		}
		f(m)
		out, err := json.Marshal(m)
		if err != nil {
			return data
		}
		return out
	}
}

// Five of 100 groups have a bad block, each of another kind. The other 95 are merged and
// downsampled, and each bad block is reported with its reason. compaction.failed, a
// level that does not exist and parents that never were make no block bad.
func TestRunOnce_CompletesOtherGroups(t *testing.T) {
	const groups = 100
	var s strings.Builder
	for g := range groups {
		for i, h := range []int{0, 40, 48} {
			fmt.Fprintf(&s, "block g%02db%d range=%dh..%dh labels={cluster=\"%02d\"}\n  up %dh..%dh/1h:1+1\n", g, i, h, h+8, g, h, h+8)
		}
		if g < 5 {
			fmt.Fprintf(&s, "block g%02dbad range=8h..16h labels={cluster=\"%02d\"}\n  up 8h..16h/1h:1+1\n", g, g)
		}
	}
	b := blocktest.Bucket(t, s.String())
	reasons := []string{"chunk_corrupt", "size_mismatch", "meta_version", "time_range_too_long", "times_out_of_range"}
	want := map[string]string{}
	for g, why := range reasons {
		want[blocktest.ID(fmt.Sprintf("g%02dbad", g)).String()] = why
	}
	bad := func(g int, rel string, f func([]byte) []byte) {
		t.Helper()
		change(t, b, blocktest.ID(fmt.Sprintf("g%02dbad", g)), rel, f)
	}
	bad(0, block.SegmentName(1), func(data []byte) []byte { data[len(data)/2] ^= 1; return data })
	bad(1, block.SegmentName(1), func([]byte) []byte { return nil })
	bad(2, block.MetaFile, edit(func(m map[string]any) { m["version"] = 7 }))
	bad(3, block.MetaFile, edit(func(m map[string]any) { m["minTime"] = int64(-9e12) }))
	bad(4, block.MetaFile, edit(func(m map[string]any) { m["maxTime"] = int64(9e18) }))
	change(t, b, blocktest.ID("g05b1"), block.MetaFile, edit(func(m map[string]any) {
		m["compaction"].(map[string]any)["failed"] = true
		m["compaction"].(map[string]any)["level"] = 77
		m["compaction"].(map[string]any)["parents"] = []any{map[string]any{"ulid": blocktest.ID("never").String(), "minTime": -5, "maxTime": 0}}
		m["stats"] = map[string]any{"numSamples": uint64(1) << 63}
	}))

	reg := prometheus.NewRegistry()
	c, err := compact.New(config(t, "--compact.concurrency=8", "--downsample.concurrency=8"), compact.Deps{Bucket: b, Logger: slog.New(slog.DiscardHandler), Registerer: reg})
	require.NoError(t, err)
	var failed *compact.FailedError
	require.ErrorAs(t, c.RunOnce(t.Context()), &failed)
	require.Equal(t, 2, failed.Jobs, "those on blocks whose damage is not in their meta.json")

	blocks := strings.Join(live(t, b), "\n")
	for g := range groups {
		ext := fmt.Sprintf(`series=1 {cluster="%02d"}`, g)
		if g < 2 { // the bad block splits the window
			require.NotRegexp(t, `(?m)^0\.\.48h .*`+ext, blocks)
			continue
		}
		// Where the meta.json is bad, the rest of the group is merged without the block.
		require.Regexp(t, `(?m)^0\.\.48h res=0 .*samples=16 `+ext, blocks)
		require.Regexp(t, `(?m)^0\.\.48h res=5 .*samples=16 `+ext, blocks)
	}
	got := reasonsOf(t, reg, "hindsight_compact_block_quarantined", "hindsight_compact_block_skipped")
	require.Equal(t, want, got)

	// They are still there, and the next pass has nothing to do.
	require.NoError(t, c.RunOnce(t.Context()))
	require.Equal(t, want, reasonsOf(t, reg, "hindsight_compact_block_quarantined", "hindsight_compact_block_skipped"))
	require.Len(t, readBacklog(t, c).Data.BadBlocks, 5)
}

// reasonsOf returns the reasons by block of metrics that have both labels.
func reasonsOf(t testing.TB, reg *prometheus.Registry, names ...string) map[string]string {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	out := map[string]string{}
	for _, f := range families {
		for _, name := range names {
			if f.GetName() != name {
				continue
			}
			for _, m := range f.GetMetric() {
				labels := map[string]string{}
				for _, l := range m.GetLabel() {
					labels[l.GetName()] = l.GetValue()
				}
				require.Empty(t, out[labels["block"]], "one metric for each block")
				out[labels["block"]] = labels["reason"]
			}
		}
	}
	return out
}
