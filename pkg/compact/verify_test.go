package compact_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/compact"
)

const mergedBlocks = `
block a range=0h..2h labels={cluster="eu"}
  up{i="1"} 0m..119m/1m:1+1
  up{i="2"} 0m..119m/1m:1+1
block b range=2h..4h labels={cluster="eu"}
  up{i="1"} 120m..239m/1m:1+1
block c range=6h..8h labels={cluster="eu"}
  up{i="1"} 360m..479m/1m:1+1
block d range=8h..10h labels={cluster="eu"}
  up{i="1"} 480m..599m/1m:1+1
`

// TestRunOnce_PublishesNoResultThatDiffers damages what the bucket gives back of a new
// block: the index, or a chunk. The block does not become visible, its objects are deleted,
// its sources are neither marked nor taken again, and metric and log name the block.
func TestRunOnce_PublishesNoResultThatDiffers(t *testing.T) {
	for _, c := range []struct {
		content, kind, rel, mode string
		reported                 int
	}{
		{mergedBlocks, "merge", block.IndexFile, "sample", 3},
		{mergedBlocks, "merge", block.SegmentName(1), "full", 3},
		{longBlock, "downsample", block.IndexFile, "sample", 1},
		{longBlock, "downsample", block.SegmentName(1), "full", 1},
	} {
		src := blocktest.Bucket(t, c.content)
		before := list(t, src)
		known := strings.Join(before, "\n")
		faulty := buckettest.NewFaulty(src, func(op buckettest.Op) buckettest.Fault {
			id, rel, ok := block.ParsePath(op.Name)
			if ok && op.Kind == "get_range" && rel == c.rel && !strings.Contains(known, id.String()) {
				return buckettest.Fault{Flip: 40}
			}
			return buckettest.Fault{}
		})
		reg, log := prometheus.NewRegistry(), &bytes.Buffer{}
		comp, err := compact.New(config(t, "--compact.verify="+c.mode),
			compact.Deps{Bucket: faulty, Logger: slog.New(slog.NewTextHandler(log, nil)), Registerer: reg})
		require.NoError(t, err)
		require.Error(t, comp.RunOnce(context.Background()))
		require.Contains(t, log.String(), "result differs from its sources")
		for _, name := range list(t, src) {
			id, _, ok := block.ParsePath(name)
			require.True(t, !ok || strings.Contains(known, id.String()), "%s is left", name)
		}
		require.Empty(t, poll(t, src).Deletion)
		reasons := quarantined(t, reg)
		require.Len(t, reasons, c.reported, "%v", reasons)
		for _, why := range reasons {
			require.Equal(t, "result_mismatch", why)
		}
		failing := 0
		families, err := reg.Gather()
		require.NoError(t, err)
		for _, f := range families {
			for _, m := range f.Metric {
				if f.GetName() == "hindsight_compact_verification_failures_total" && m.Counter.GetValue() > 0 {
					failing++
				}
			}
		}
		require.Equal(t, 1, failing, "kinds of jobs with a failed verification")

		faulty.SetRule(nil)
		sound := newCompactor(t, src, "--compact.verify="+c.mode)
		require.NoError(t, sound.RunOnce(context.Background()))
		require.NotEqual(t, before, list(t, src))
	}
}
