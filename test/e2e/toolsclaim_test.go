package e2e

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// Tools change and delete blocks beside a compactor that merges them, on a real S3 server.
// Series that a command reports as removed stay removed, a command that comes too late says
// so, and nothing else is lost, also when commands are killed in the middle.
func TestToolsOnS3_BesideACompactor(t *testing.T) {
	const tenants = 6
	s := newSite(t)
	require.NoError(t, s.Start("s3"))
	var text strings.Builder
	for i := range tenants {
		for n := range 6 {
			fmt.Fprintf(&text, "block t%d%d range=%dh..%dh labels={tenant=\"%d\",replica=\"a\"} level=1\n", i, n, 2*n, 2*n+2, i)
			fmt.Fprintf(&text, "  up{job=\"x\"} %dh..%dh/1m:1+1\n  secret{job=\"x\"} %dh..%dh/1m:1+1\n", 2*n, 2*n+2, 2*n, 2*n+2)
		}
	}
	b := newToolBucket(t, s, "beside", text.String())
	rewrite := func(i int) []string {
		return []string{
			"bucket", "rewrite", "--id=" + blocktest.ID(fmt.Sprintf("t%d0", i)).String(), "--no-dry-run", "--delete-blocks",
			"--tmp.dir=" + t.TempDir(), "--compact.lease-duration=1s", `--rewrite.to-delete-config=[{matchers: '{__name__="secret"}'}]`,
		}
	}
	cleanup := []string{"bucket", "cleanup", "--yes", "--delete-delay=0s", "--consistency-delay=0s"}

	b.tool(0, rewrite(0)...)
	p, err := harness.Start(s.Dir, "beside", bin.Hindsight, "compact", "--wait", "--wait-interval=1s", "--compact.cleanup-interval=1s",
		"--consistency-delay=0s", "--compact.lease-duration=1s", "--http-address=127.0.0.1:0", "--data-dir="+s.Path("beside"),
		"--deduplication.replica-label=replica", "--downsampling.disable", "--delete-delay=2s", "--objstore.config="+b.config(b.addr))
	require.NoError(t, err)
	defer p.Kill()
	// The compactor has merged and deleted the block before the tool came to it.
	const tooLate = `is marked for deletion|was deleted by a compactor|no such complete block`
	removed := map[int]bool{0: true}
	for i := 1; i < tenants-1; i++ {
		cmd := exec.CommandContext(t.Context(), bin.Hindsight, append(append([]string{"tools"}, rewrite(i)...), "--objstore.config="+b.config(b.addr))...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		if removed[i] = err == nil; err != nil {
			require.Regexp(t, tooLate, out.String())
		}
	}
	for n := int64(1); n < 5; n++ {
		b.killedAt(n, cleanup...)
	}
	if killed, code, out := b.runKilledAt(7, rewrite(tenants-1)...); !killed && code != 0 {
		require.Regexp(t, tooLate, out)
	}
	require.Eventually(t, func() bool {
		v, err := blocklist.NewPoller(b.bkt, blocklist.Config{}).Poll(t.Context())
		require.NoError(t, err)
		merged := 0
		for id, m := range v.Metas {
			if m.Compaction.Level >= 2 && v.Deletion[id] == nil {
				merged++
			}
		}
		return merged == tenants
	}, time.Minute, 200*time.Millisecond, "each group is merged")
	require.NoError(t, p.Stop(20*time.Second))
	b.tool(0, cleanup...)

	v, err := blocklist.NewPoller(b.bkt, blocklist.Config{}).Poll(t.Context())
	require.NoError(t, err)
	counts := map[string]uint64{}
	for id, m := range v.Metas {
		require.Nil(t, v.Deletion[id])
		counts[m.Thanos.Labels["tenant"]] += m.Stats.NumSamples
	}
	done := 0
	for i := range tenants {
		all, gone := uint64(6*2*120), uint64(120)
		got := counts[fmt.Sprint(i)]
		switch {
		case i == tenants-1: // killed: all or nothing
			require.InDelta(t, all-gone/2, got, float64(gone)/2+12, "tenant %d", i)
		case removed[i]:
			require.InDelta(t, all-gone, got, 12, "tenant %d: a rewritten block was merged as it was", i)
			done++
		default:
			require.InDelta(t, all, got, 12, "tenant %d", i)
		}
	}
	t.Logf("%d of %d blocks rewritten before the compactor merged them", done, tenants-1)
	_, blocks := b.samples()
	require.NotZero(t, blocks)
	require.NotContains(t, p.Output(), block.MetaFile+" is missing")
}
