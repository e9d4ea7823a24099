package blockcolumns_test

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blockcolumns"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/columnchunk"
)

// object is a columns object in memory.
type object struct {
	blockcolumns.Object
	bytes []byte
}

// blockDir writes a block of the series and returns its directory.
func blockDir(t testing.TB, series []blocktest.Series) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "block")
	require.NoError(t, blocktest.Write(t.Context(), dir, &block.Meta{}, series))
	return dir
}

// objectOf writes the columns object of a block of the series.
func objectOf(t testing.TB, series []blocktest.Series) object {
	t.Helper()
	return objectIn(t, blockDir(t, series))
}

// objectIn writes the columns object of the block in a directory.
func objectIn(t testing.TB, dir string) object {
	t.Helper()
	var w bytes.Buffer
	o, err := blockcolumns.Write(t.Context(), &w, dir)
	require.NoError(t, err)
	require.EqualValues(t, w.Len(), o.Size)
	parsed, ok := blockcolumns.ParseName(o.Rel)
	require.True(t, ok, o.Rel)
	require.Equal(t, o, parsed)
	return object{o, w.Bytes()}
}

// seriesOf are the series of a block in the language of package blocktest.
func seriesOf(t testing.TB, text string) []blocktest.Series {
	t.Helper()
	spec, err := blocktest.Parse("block a\n" + text)
	require.NoError(t, err)
	return spec.Blocks[0].Series
}

func (o object) part(s blockcolumns.Span) []byte { return o.bytes[s.Off:s.End] }

// metric finds a metric in the directory.
func (o object) metric(name string) (m blockcolumns.Metric, found bool, err error) {
	d, err := blockcolumns.ParseDirectory(o.Object, o.part(o.DirectorySpan()))
	if err != nil {
		return m, false, err
	}
	return d.Metric(name)
}

// answer is a series as a reader sees it.
type answer struct {
	lset   labels.Labels
	chunks []blockcolumns.Chunk
}

// find reads the series of a metric that the matchers select, in ascending order.
func (o object) find(name string, ms ...*labels.Matcher) (out []answer, err error) {
	m, found, err := o.metric(name)
	if err != nil || !found {
		return nil, err
	}
	search, ok := m.Search(name, ms)
	if !ok {
		return nil, nil
	}
	var series []blockcolumns.Found
	for _, s := range m.Candidates(ms) {
		if series, err = search.Append(series, s, o.part(s.Index)); err != nil {
			return nil, err
		}
	}
	for _, f := range series {
		chunks, err := blockcolumns.DecodeChunks(nil, o.part(f.Chunks))
		if err != nil {
			return nil, err
		}
		out = append(out, answer{f.Labels, chunks})
	}
	slices.SortFunc(out, func(a, b answer) int { return labels.Compare(a.lset, b.lset) })
	return out, nil
}

// samples writes the samples of a chunk with all bits of their values.
func samples(it chunkenc.Iterator) string {
	var b strings.Builder
	for it.Next() != chunkenc.ValNone {
		t, v := it.At()
		fmt.Fprintf(&b, " %d:%x", t, math.Float64bits(v))
	}
	if it.Err() != nil {
		return it.Err().Error()
	}
	return b.String()
}

// text writes series with all samples of all chunks.
func text(answers []answer) string {
	var b strings.Builder
	for _, a := range answers {
		fmt.Fprintf(&b, "%s\n", a.lset)
		for _, c := range a.chunks {
			it := columnchunk.NewIterator(c.Bytes)
			if c.Encoding != columnchunk.Encoding {
				chk, err := chunkenc.FromData(c.Encoding, c.Bytes)
				if err != nil {
					return err.Error()
				}
				it = chk.Iterator(nil)
			}
			fmt.Fprintf(&b, "  [%d, %d]%s\n", c.MinTime, c.MaxTime, samples(it))
		}
	}
	return b.String()
}

// wanted are the series of a metric of a block that the matchers select, in ascending order.
func wanted(series []blocktest.Series, name string, ms ...*labels.Matcher) (out []answer) {
	for _, s := range series {
		if s.Labels.Get(model.MetricNameLabel) != name || slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(s.Labels.Get(m.Name)) }) {
			continue
		}
		a := answer{lset: s.Labels}
		for _, c := range s.Chunks {
			a.chunks = append(a.chunks, blockcolumns.Chunk{MinTime: c.MinTime, MaxTime: c.MaxTime, Encoding: c.Chunk.Encoding(), Bytes: c.Chunk.Bytes()})
		}
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b answer) int { return labels.Compare(a.lset, b.lset) })
	return out
}

// names are those of the metrics of a block.
func names(series []blocktest.Series) (out []string) {
	for _, s := range series {
		if name := s.Labels.Get(model.MetricNameLabel); name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// describe writes what the directory of an object has of the metrics of its block.
func (o object) describe(t testing.TB, series []blocktest.Series) string {
	t.Helper()
	var b strings.Builder
	for _, name := range names(series) {
		m, found, err := o.metric(name)
		require.NoError(t, err)
		require.True(t, found, name)
		if m.LeftOut {
			fmt.Fprintf(&b, "%s left out\n", name)
			continue
		}
		fmt.Fprintf(&b, "%s %s by %s: %d series in %d segments\n", name, labels.New(m.Constant...), m.Order, m.Series, len(m.Segments))
	}
	return b.String()
}

// requireSame compares all metrics of an object that are not left out with the block.
func requireSame(t testing.TB, series []blocktest.Series, o object) {
	t.Helper()
	for _, name := range names(series) {
		m, found, err := o.metric(name)
		require.NoError(t, err)
		require.True(t, found)
		if m.LeftOut {
			continue
		}
		require.Equal(t, m.Segments, m.Candidates(nil))
		got, err := o.find(name)
		require.NoError(t, err)
		require.Equal(t, text(wanted(series, name)), text(got))
	}
	_, found, err := o.metric("no_such_metric")
	require.NoError(t, err)
	require.False(t, found)
}

func TestObject_HasTheBlock(t *testing.T) {
	for _, tc := range []struct{ name, block, object string }{
		{"no series", ``, ``},
		{"one series of one sample", `
			up 0s:1`, `
			up {} by []: 1 series in 1 segments`},
		{"a label that all series have is constant", `
			up{job="node",instance="a"} 0s..1h/15s:1
			up{job="node",instance="b"} 0s..1h/15s:0`, `
			up {job="node"} by [instance]: 2 series in 1 segments`},
		{"a label that one series lacks is not", `
			up{instance="a",job="node"} 0s..1h/15s:1
			up{instance="b"} 0s..1h/15s:0`, `
			up {} by [job instance]: 2 series in 1 segments`},
		{"stale markers, NaN, infinities and negative zero", `
			up{instance="a"} 0s..10m/15s:1 10m:stale 11m:NaN 12m:+Inf 13m:-Inf 14m:-0
			up{instance="b"} 0s:stale
			up{instance="c"} 0s:-0 1s:0`, `
			up {} by [instance]: 3 series in 1 segments`},
		{"few decimals, gaps and several chunks", `
			cpu{mode="idle"} 0s..2h/15s:0.25+0.13 3h..5h/15s:7+0.001 | 5h:1
			cpu{mode="user"} 0s..5h/1m:1e300+1e299`, `
			cpu {} by [mode]: 2 series in 1 segments`},
		{"native histograms are left out", `
			lat{job="x"} 0s..1h/15s:h1+1
			lat_float{job="x"} 0s..1h/15s:fh1+1
			up{job="x"} 0s:1`, `
			lat left out
			lat_float left out
			up {job="x"} by []: 1 series in 1 segments`},
		{"a metric with floats and histograms is left out, also where floats come first", `
			a_first{job="a"} 0s:1
			lat{job="a"} 0s..1h/15s:1
			lat{job="b"} 0s..1h/15s:1 1h:h1
			z_last{job="z"} 0s:1`, `
			a_first {job="a"} by []: 1 series in 1 segments
			lat left out
			z_last {job="z"} by []: 1 series in 1 segments`},
		{"series without a metric are not there", `
			{job="x"} 0s:1
			up{job="x"} 0s:1`, `
			up {job="x"} by []: 1 series in 1 segments`},
		{"a value with a byte zero leaves the metric out", `
			up{job="x\u0000y"} 0s:1
			up{job="x"} 0s:1
			zoo{job="x"} 0s:1`, `
			up left out
			zoo {job="x"} by []: 1 series in 1 segments`},
		{"names of labels before __name__ and other scripts", `
			up{Zone="1",job="a"} 0s:1
			up{Zone="2",job="b","größe"="ü"} 0s:1`, `
			up {} by [job größe Zone]: 2 series in 1 segments`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			series := seriesOf(t, tc.block)
			o := objectOf(t, series)
			want := strings.TrimPrefix(strings.ReplaceAll(tc.object, "\t", "")+"\n", "\n")
			require.Equal(t, want, o.describe(t, series))
			requireSame(t, series, o)
		})
	}
}

func TestObject_OfManySeriesHasSegments(t *testing.T) {
	var block strings.Builder
	for pod := range 30 {
		for le := range 20 {
			fmt.Fprintf(&block, "b{pod=\"p%d\",le=\"%d\"} 0s..1h/1m:%d+%d\n", pod, le, pod, cmp.Compare(le, 10))
		}
	}
	series := seriesOf(t, block.String())
	o := objectOf(t, series)
	require.Equal(t, "b {} by [pod le]: 600 series in 3 segments\n", o.describe(t, series))
	requireSame(t, series, o)

	m, _, err := o.metric("b")
	require.NoError(t, err)
	is := func(pod string) []*labels.Matcher {
		return []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "pod", pod)}
	}
	require.Len(t, m.Candidates(is("p0")), 1)
	require.Len(t, m.Candidates(is("p2")), 2, "its series are in two segments")
	at := int64(8) // behind the magic
	for _, s := range m.Segments {
		require.Equal(t, at, s.Chunks.Off)
		at = s.Chunks.End
	}
	for _, s := range m.Segments {
		require.Equal(t, at, s.Index.Off)
		at = s.Index.End
	}
	require.Equal(t, blockcolumns.Span{Off: 8, End: m.Index.Off}, m.Chunks)
	require.Equal(t, at, m.Index.End)
}

func TestWrite_IsDeterministic(t *testing.T) {
	dir := blockDir(t, randomBlock(newRand(7)))
	first := objectIn(t, dir)
	for range 3 {
		require.Equal(t, first, objectIn(t, dir))
	}
}
