package compact_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
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

// TestRunOnce_PublishesNoUploadThatDiffers damages what the bucket gives back of a new
// block: the index, or a chunk. The block does not become visible, its objects are deleted,
// metric and log name it, and its sources are sound: they are not quarantined, and the next
// pass of the same compactor does the work.
func TestRunOnce_PublishesNoUploadThatDiffers(t *testing.T) {
	for _, c := range uploadsReadBack() {
		src := blocktest.Bucket(t, c.content)
		before := list(t, src)
		known := strings.Join(before, "\n")
		faulty := buckettest.NewFaulty(src, func(op buckettest.Op) buckettest.Fault {
			if c.reads(op, known) {
				return buckettest.Fault{Flip: 40}
			}
			return buckettest.Fault{}
		})
		reg, log := prometheus.NewRegistry(), &bytes.Buffer{}
		comp, err := compact.New(config(t, "--compact.verify="+c.mode),
			compact.Deps{Bucket: faulty, Logger: slog.New(slog.NewTextHandler(log, nil)), Registerer: reg})
		require.NoError(t, err)
		require.Error(t, comp.RunOnce(context.Background()))
		require.Contains(t, log.String(), "upload differs from what was written")
		for _, name := range list(t, src) {
			id, _, ok := block.ParsePath(name)
			require.True(t, !ok || strings.Contains(known, id.String()), "%s is left", name)
		}
		require.Empty(t, poll(t, src).Deletion)
		require.Empty(t, quarantined(t, reg))
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
		require.NoError(t, comp.RunOnce(context.Background()))
		require.NotEqual(t, before, list(t, src))
	}
}

// A bit that flips once on the way back costs one more request and no job.
func TestRunOnce_ReadsBackTwiceWhatDiffers(t *testing.T) {
	for _, c := range uploadsReadBack() {
		src := blocktest.Bucket(t, c.content)
		known := strings.Join(list(t, src), "\n")
		flipped := map[ulid.ULID]bool{}
		faulty := buckettest.NewFaulty(src, func(op buckettest.Op) buckettest.Fault {
			if id, _, _ := block.ParsePath(op.Name); c.reads(op, known) && !flipped[id] {
				flipped[id] = true
				return buckettest.Fault{Flip: 40}
			}
			return buckettest.Fault{}
		})
		comp := newCompactor(t, faulty, "--compact.verify="+c.mode)
		require.NoError(t, comp.RunOnce(context.Background()))
		require.NotEmpty(t, flipped)
	}
}

// readBack is a read of an upload that is to be verified.
type readBack struct{ content, rel, mode string }

func uploadsReadBack() []readBack {
	return []readBack{
		{mergedBlocks, block.IndexFile, "sample"},
		{mergedBlocks, block.SegmentName(1), "full"},
		{longBlock, block.IndexFile, "sample"},
		{longBlock, block.SegmentName(1), "full"},
	}
}

// reads says whether a call reads the object back of a block that is not known.
func (c readBack) reads(op buckettest.Op, known string) bool {
	id, rel, ok := block.ParsePath(op.Name)
	return ok && op.Kind == "get_range" && rel == c.rel && !strings.Contains(known, id.String())
}
