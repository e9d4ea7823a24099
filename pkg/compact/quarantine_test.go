package compact_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact"
)

// change replaces an object by what f makes of it; nil deletes it.
func change(t testing.TB, b bucket.Bucket, id ulid.ULID, rel string, f func([]byte) []byte) {
	t.Helper()
	ctx, name := context.Background(), block.Path(id, rel)
	r, err := b.Get(ctx, name)
	require.NoError(t, err)
	data, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	if data = f(data); data == nil {
		require.NoError(t, b.Delete(ctx, name))
		return
	}
	require.NoError(t, b.Upload(ctx, name, bytes.NewReader(data), int64(len(data))))
}

// Five of twelve groups have a damaged block, each of another kind. All sound blocks
// are merged and downsampled, and each damaged one is reported with its reason.
func TestRunOnce_QuarantinesDamagedBlocks(t *testing.T) {
	var s strings.Builder
	groups := 12
	for g := range groups {
		for i := range 8 {
			fmt.Fprintf(&s, "block g%02db%d range=%dh..%dh labels={cluster=\"%02d\"}\n", g, i, 8*i, 8*i+8, g)
			end := 480*i + 480
			if g == 4 && i == 2 {
				end += 60 // beyond the block
			}
			fmt.Fprintf(&s, "  up %dm..%dm/5m:1+1\n", 480*i, end)
		}
	}
	b := blocktest.Bucket(t, s.String())
	bad := func(g int) ulid.ULID { return blocktest.ID(fmt.Sprintf("g%02db2", g)) }
	change(t, b, bad(0), block.SegmentName(1), func(data []byte) []byte { data[len(data)/2] ^= 1; return data })
	change(t, b, bad(1), block.SegmentName(1), func(data []byte) []byte { return data[:len(data)-5] })
	change(t, b, bad(2), block.SegmentName(1), func([]byte) []byte { return nil })
	change(t, b, bad(3), block.IndexFile, func(data []byte) []byte { data[12] ^= 1; return data }) // symbols

	reg := prometheus.NewRegistry()
	c, err := compact.New(config(t), compact.Deps{Bucket: b, Logger: slog.New(slog.DiscardHandler), Registerer: reg})
	require.NoError(t, err)
	err = c.RunOnce(context.Background())
	var failed *compact.FailedError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, 5, failed.Jobs)

	blocks := strings.Join(live(t, b), "\n")
	for g := range groups {
		ext := fmt.Sprintf(`{cluster="%02d"}`, g)
		if g >= 5 {
			require.Contains(t, blocks, "0..48h res=0 level=2 samples=576 series=1 "+ext)
			require.Contains(t, blocks, "0..48h res=5 level=2 samples=576 series=1 "+ext)
			continue
		}
		// The sound blocks on one side of the bad one are merged; they are not
		// yet long enough to be downsampled.
		require.Contains(t, blocks, "0..16h res=0 level=2 samples=192 series=1 "+ext)
		require.Contains(t, blocks, "16..24h res=0 level=1 ")
	}
	reasons := quarantined(t, reg)
	require.Equal(t, map[string]string{
		bad(0).String(): "chunk_corrupt", bad(1).String(): "size_mismatch", bad(2).String(): "size_mismatch",
		bad(3).String(): "index_corrupt", bad(4).String(): "chunk_outside_of_block",
	}, reasons)
	// Blocks with damaged bytes get a mark in the bucket.
	marks := poll(t, b).NoCompact
	require.Len(t, marks, 3)
	require.Equal(t, block.MarkOutOfOrderChunk, marks[bad(4)].Reason)

	// The next pass has nothing left to do and does not stumble again.
	require.NoError(t, c.RunOnce(context.Background()))
}

// A block lacks an object, which is uploaded again later. No job takes the block for 15
// minutes, then for 30, because it is not mended at the first trial; after the second one it
// is merged, and the metric, which was 1 all the time, is gone.
func TestRunOnce_TriesQuarantinedBlocksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s strings.Builder
		for i := range 5 {
			fmt.Fprintf(&s, "block b%d range=%dh..%dh labels={cluster=\"eu\"}\n  up %dm..%dm/5m:1+1\n", i, 2*i, 2*i+2, 120*i, 120*i+119)
		}
		b := blocktest.Bucket(t, s.String())
		bad, lost := blocktest.ID("b1"), []byte(nil)
		change(t, b, bad, block.SegmentName(1), func(data []byte) []byte { lost = data; return nil })
		reg := prometheus.NewRegistry()
		c, err := compact.New(config(t), compact.Deps{Bucket: b, Logger: slog.New(slog.DiscardHandler), Registerer: reg})
		require.NoError(t, err)
		pass := func(after time.Duration) error {
			time.Sleep(after)
			return c.RunOnce(t.Context())
		}
		want := map[string]string{bad.String(): "size_mismatch"}
		require.Error(t, pass(0))
		require.NoError(t, pass(14*time.Minute), "no job takes it")
		require.Equal(t, want, quarantined(t, reg))
		require.Error(t, pass(time.Minute), "the first trial")
		require.Equal(t, want, quarantined(t, reg))

		name := block.Path(bad, block.SegmentName(1))
		require.NoError(t, b.Upload(t.Context(), name, bytes.NewReader(lost), int64(len(lost))))
		require.NoError(t, pass(29*time.Minute))
		require.Equal(t, want, quarantined(t, reg))
		require.NoError(t, pass(time.Minute), "the second trial")
		require.Empty(t, quarantined(t, reg))
		require.Contains(t, strings.Join(live(t, b), "\n"), "0..8h res=0 level=3 samples=96 ")
	})
}

func quarantined(t testing.TB, reg *prometheus.Registry) map[string]string {
	t.Helper()
	return reasonsOf(t, reg, "hindsight_compact_block_quarantined")
}
