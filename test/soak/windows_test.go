package main

import (
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/downsample"
)

// downsampled are the windows of 5m of the first series, of n samples of which the
// downsampler gets those that keep says.
func downsampled(t *testing.T, n int, keep func(i int) bool) *windows {
	t.Helper()
	l := newLedger(newStream("red", "", 0, 60_000, 3))
	m := &block.Meta{}
	m.Thanos.Downsample.Resolution = block.Resolution5m
	c := &content{meta: m, stream: l, sets: make([]indices, len(l.series))}
	chunk := chunkenc.NewXORChunk()
	app, err := chunk.Appender()
	require.NoError(t, err)
	for i := range n {
		c.sets[0].add(i)
		if keep(i) {
			app.Append(0, l.time(i), l.series[0].value(i))
		}
	}
	out, err := downsample.New(0, block.Resolution5m).Series([]chunks.Meta{{MinTime: 0, MaxTime: l.time(n - 1), Chunk: chunk}})
	require.NoError(t, err)
	w := newWindows(c, 0)
	for _, o := range out {
		require.NoError(t, w.read(o.Chunk))
	}
	return w
}

func TestWindows_CompareAggregatesWithRawSamples(t *testing.T) {
	require.NoError(t, downsampled(t, 100, func(int) bool { return true }).compare())
	require.ErrorContains(t, downsampled(t, 100, func(i int) bool { return i != 42 }).compare(), "1970-01-01T00:40:00.000Z has {count:4")
	require.ErrorContains(t, downsampled(t, 100, func(i int) bool { return i/5 != 8 }).compare(), "1970-01-01T00:40:00.000Z is missing")
}
