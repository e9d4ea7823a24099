package blockcolumns_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blockcolumns"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
)

// chunkOf is a chunk of so many samples, one a millisecond.
func chunkOf(t testing.TB, n int, v func(i int) float64) chunks.Meta {
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for i := range n {
		app.Append(0, int64(i), v(i))
	}
	return chunks.Meta{Chunk: c, MaxTime: int64(n) - 1}
}

func one(int) float64 { return 1 }

// A metric that the object cannot have is left out, and those around it are there.
func TestWrite_LeavesOutMetricsBeyondTheBounds(t *testing.T) {
	text := func(n int) string { return strings.Repeat("x", n) }
	numbered := func(n int) (pairs []string) {
		for i := range n {
			pairs = append(pairs, fmt.Sprintf("l%03d", i), "v")
		}
		return pairs
	}
	// rest is what long labels of a series of metric m with the label l may have in their values.
	const rest = blockcolumns.MaxLabelBytes - len(model.MetricNameLabel+"m"+"l")
	for _, tc := range []struct {
		name   string
		labels [][]string // of series of the metric m, without the name
		want   string
	}{
		{"256 labels", [][]string{numbered(256), {"l000", "v"}}, "m {l000=\"v\"} by "},
		{"257 labels", [][]string{numbered(257)}, "m left out"},
		{"257 labels of two series", [][]string{numbered(256), {"other", "v"}}, "m left out"},
		{"a constant value as long as it may be", [][]string{{"l", text(rest)}}, "m {l="},
		{"a longer one", [][]string{{"l", text(rest + 1)}}, "m left out"},
		{"another value as long as it may be", [][]string{{"l", text(rest)}, {"l", "y"}}, "m {} by [l]: 2"},
		{"a longer one", [][]string{{"l", text(rest + 1)}, {"l", "y"}}, "m left out"},
		{"names that are long together", [][]string{{text(rest/2 + 10), "v"}, {"y" + text(rest/2), "v"}, {"z", "v"}}, "m left out"},
		{"an empty value", [][]string{{"a", ""}, {"b", "x"}}, "m left out"},
		{"an empty value of all series", [][]string{{"a", "", "b", "x"}, {"a", "", "b", "y"}}, "m left out"},
		{"a byte zero", [][]string{{"a", "x\x00y"}, {"a", "x"}}, "m left out"},
		{"a byte zero at the end", [][]string{{"a", "x\x00"}, {"a", "x"}}, "m left out"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			series := seriesOf(t, `
				a{job="x"} 0s..1h/15s:1
				z{job="x"} 0s..1h/15s:1`)
			for _, pairs := range tc.labels {
				b := labels.NewScratchBuilder(len(pairs))
				b.Add(model.MetricNameLabel, "m")
				for i := 0; i < len(pairs); i += 2 {
					b.Add(pairs[i], pairs[i+1])
				}
				b.Sort()
				series = append(series, blocktest.Series{Labels: b.Labels(), Chunks: []chunks.Meta{chunkOf(t, 5, one)}})
			}
			o := objectOf(t, series)
			lines := strings.Split(o.describe(t, series), "\n")
			require.Equal(t, `a {job="x"} by []: 1 series in 1 segments`, lines[0])
			require.Contains(t, lines[1], tc.want)
			require.Equal(t, `z {job="x"} by []: 1 series in 1 segments`, lines[2])
			requireSame(t, series, o)
		})
	}
}

// Two series of one metric whose labels differ in an empty value only have the same key. There
// are so many that they are at the border of two segments.
func TestWrite_BearsSeriesThatDifferInAnEmptyValue(t *testing.T) {
	var series []blocktest.Series
	for i := range 255 {
		series = append(series, blocktest.Series{Labels: labels.FromStrings(model.MetricNameLabel, "m", "l", fmt.Sprintf("%03d", i)), Chunks: []chunks.Meta{chunkOf(t, 1, one)}})
	}
	for _, pairs := range [][]string{{model.MetricNameLabel, "m", "l", "x"}, {model.MetricNameLabel, "m", "a", "", "l", "x"}} {
		b := labels.NewScratchBuilder(3)
		for i := 0; i < len(pairs); i += 2 {
			b.Add(pairs[i], pairs[i+1])
		}
		series = append(series, blocktest.Series{Labels: b.Labels(), Chunks: []chunks.Meta{chunkOf(t, 1, one)}})
	}
	require.Equal(t, "m left out\n", objectOf(t, series).describe(t, series))
}

// The index of a series with as many and as long labels as it may have is within the bounds of
// a reader, also where it does not compress.
func TestWrite_OfTheLongestLabels(t *testing.T) {
	rng := newRand(1)
	var series []blocktest.Series
	for range 300 {
		b := labels.NewScratchBuilder(256)
		b.Add(model.MetricNameLabel, "m")
		for i := range blockcolumns.MaxLabels {
			value := make([]byte, 24) // 8 KiB together, with the names
			for k := range value {
				value[k] = byte(1 + rng.IntN(255))
			}
			b.Add(fmt.Sprintf("l%03d", i), string(value))
		}
		b.Sort()
		series = append(series, blocktest.Series{Labels: b.Labels(), Chunks: []chunks.Meta{chunkOf(t, 1, one)}})
	}
	o := objectOf(t, series)
	m, _, err := o.metric("m")
	require.NoError(t, err)
	require.Equal(t, 300, m.Series)
	require.Greater(t, m.Segments[1].Index.Len(), int64(44*6500))
	requireSame(t, series, o)
}

func TestWrite_LeavesOutSeriesOfManyChunks(t *testing.T) {
	series := func(name string, n int, c chunks.Meta) blocktest.Series {
		s := blocktest.Series{Labels: labels.FromStrings(model.MetricNameLabel, name)}
		for i := range n {
			c.MinTime, c.MaxTime = int64(i)*1000, int64(i)*1000+999
			s.Chunks = append(s.Chunks, c)
		}
		return s
	}
	single := chunkOf(t, 1, one)
	large := chunkOf(t, 1000, func(i int) float64 { return 1 / float64(i+3) })
	most := blockcolumns.MaxPiece / (len(large.Chunk.Bytes()) * 2 / 3)
	all := []blocktest.Series{
		series("a", blockcolumns.MaxChunks, single), series("b", blockcolumns.MaxChunks+1, single),
		series("c", most, large), series("d", 1, large),
	}
	o := objectOf(t, all)
	require.Equal(t, "a {} by []: 1 series in 1 segments\nb left out\nc left out\nd {} by []: 1 series in 1 segments\n", o.describe(t, all))
	found, err := o.find("a")
	require.NoError(t, err)
	require.Len(t, found[0].chunks, blockcolumns.MaxChunks)
	requireSame(t, all[3:], o)
}

// A reader reads the directory for each selector: there is no object when it is large.
func TestWrite_FailsWhenTheDirectoryIsLarge(t *testing.T) {
	rng := newRand(1)
	name := make([]byte, 9<<20)
	for i := range name {
		name[i] = byte(rng.Uint32())
	}
	series := []blocktest.Series{{Labels: labels.FromStrings(model.MetricNameLabel, string(name)), Chunks: []chunks.Meta{chunkOf(t, 1, one)}}}
	_, err := blockcolumns.Write(t.Context(), io.Discard, blockDir(t, series))
	require.ErrorContains(t, err, "the directory of 1 metrics is too large")
}

// limited is a writer that fails after so many bytes.
type limited int

var errFull = errors.New("disk full")

func (l *limited) Write(b []byte) (int, error) {
	if n := int(*l); len(b) > n {
		return n, errFull
	}
	*l -= limited(len(b))
	return len(b), nil
}

// canceling is a writer that cancels a context at the second write.
type canceling struct {
	cancel func()
	writes int
}

func (c *canceling) Write(b []byte) (int, error) {
	if c.writes++; c.writes == 2 {
		c.cancel()
	}
	return len(b), nil
}

func TestWrite_EndsBetweenSegments(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := &canceling{cancel: cancel}
	_, err := blockcolumns.Write(ctx, w, blockDir(t, seriesOf(t, nodes(5))))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1+256, w.writes, "the magic and a segment")
}

func TestWrite_ReportsErrors(t *testing.T) {
	series := seriesOf(t, `
		a{job="x"} 0s..1h/15s:1
		z{job="x"} 0s..1h/15s:1`)
	dir := blockDir(t, series)
	size := objectIn(t, dir).Size
	for n := range size {
		l := limited(n)
		_, err := blockcolumns.Write(t.Context(), &l, dir)
		require.ErrorIs(t, err, errFull, "after %d of %d bytes", n, size)
	}
	l := limited(size)
	_, err := blockcolumns.Write(t.Context(), &l, dir)
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = blockcolumns.Write(ctx, io.Discard, dir)
	require.ErrorIs(t, err, context.Canceled)

	segment := filepath.Join(dir, "chunks", "000001")
	b, err := os.ReadFile(segment)
	require.NoError(t, err)
	b[len(b)-1] ^= 1
	require.NoError(t, os.WriteFile(segment, b, 0o600))
	_, err = blockcolumns.Write(t.Context(), io.Discard, dir)
	require.ErrorContains(t, err, "write columns of z")

	require.NoError(t, os.RemoveAll(filepath.Dir(segment)))
	_, err = blockcolumns.Write(t.Context(), io.Discard, dir)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.Remove(filepath.Join(dir, "index")))
	_, err = blockcolumns.Write(t.Context(), io.Discard, dir)
	require.ErrorIs(t, err, os.ErrNotExist)
}
