package blockcheck

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
)

// An index has more symbols than the walk keeps, so that they replace each other.
func TestWalk_ReadsSeriesOfManySymbols(t *testing.T) {
	m := &block.Meta{}
	m.ULID, m.MaxTime = blocktest.ID("b"), 1000
	dir := filepath.Join(t.TempDir(), m.ULID.String())
	var want []string
	var series []blocktest.Series
	for i := range 2 * recentSymbols {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		app.Append(0, int64(i%1000), 1)
		l := labels.FromStrings("a", fmt.Sprintf("%05d", i), "b", fmt.Sprint("other ", i/2))
		want = append(want, l.String())
		series = append(series, blocktest.Series{Labels: l, Chunks: []chunks.Meta{{MinTime: int64(i % 1000), MaxTime: int64(i % 1000), Chunk: c}}})
	}
	require.NoError(t, blocktest.Write(context.Background(), dir, m, series))
	x, err := openIndex(filepath.Join(dir, block.IndexFile))
	require.NoError(t, err)
	defer func() { require.NoError(t, x.close()) }()
	n := 0
	require.NoError(t, x.walk(context.Background(), func(l labels.Labels, series uint64, chks []chunks.Meta) error {
		require.Equal(t, want[n], l.String())
		require.Equal(t, hashOf(l), series)
		require.Len(t, chks, 1)
		require.Equal(t, int64(n%1000), chks[0].MinTime)
		n++
		return nil
	}))
	require.Equal(t, len(want), n)
}
