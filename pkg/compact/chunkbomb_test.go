package compact_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/compact"
)

// bomb replaces the first chunk of a segment by a histogram chunk of one sample
// that says it has 2^32-1 buckets, with the right checksum.
func bomb(segment []byte) []byte {
	const first = 8
	n, k := binary.Uvarint(segment[first:])
	body := segment[first+k : first+k+1+int(n)]
	clear(body)
	body[0] = byte(chunkenc.EncHistogram)
	copy(body[1:], []byte{0, 1, 0, 0, 0b0_10_001_11, 0b111110_00, 0, 0, 0, 0b11111111, 0b11111111, 0b11111111, 0b11111100})
	binary.BigEndian.PutUint32(segment[first+k+1+int(n):], crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	return segment
}

// A chunk that would allocate gigabytes makes its block a corrupt one: it is
// named and skipped, and the other groups are compacted.
func TestRunOnce_QuarantinesBlockWithChunkOfTooManyBuckets(t *testing.T) {
	var s strings.Builder
	for g := range 2 {
		for i := range 8 {
			fmt.Fprintf(&s, "block g%db%d range=%dh..%dh labels={cluster=\"%d\"}\n", g, i, 8*i, 8*i+8, g)
			fmt.Fprintf(&s, "  up %dm..%dm/5m:1+1\n", 480*i, 480*i+480)
		}
	}
	b := blocktest.Bucket(t, s.String())
	bad := blocktest.ID("g0b2")
	change(t, b, bad, block.SegmentName(1), bomb)

	c, err := compact.New(config(t), compact.Deps{Bucket: b, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	require.NoError(t, err)
	require.ErrorContains(t, c.RunOnce(context.Background()), bad.String())
	require.NoError(t, c.RunOnce(context.Background()), "it is known")
	blocks := strings.Join(live(t, b), "\n")
	require.Contains(t, blocks, `0..48h res=0 level=2 samples=576 series=1 {cluster="1"}`)
	require.Contains(t, blocks, `16..24h res=0 level=1 samples=96 series=1 {cluster="0"}`)
}
