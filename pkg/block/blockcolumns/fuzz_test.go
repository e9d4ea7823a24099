package blockcolumns_test

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block/blockcolumns"
	"github.com/hindsight-io/hindsight/pkg/columnchunk"
)

// seedObjects are small objects with several metrics, and one with segments.
func seedObjects(f *testing.F) (out []object) {
	out = append(out, objectOf(f, seriesOf(f, `
		cpu{job="node",instance="a",mode="idle"} 0s..1h/15s:0.5+0.25
		cpu{job="node",instance="a",mode="user"} 0s..1h/15s:1e-7+1e300
		cpu{job="node",instance="b",mode="idle"} 0s:1 15s:stale | 1h:3
		lat 0s:h1
		up{instance="a"} 0s:1
		up 0s:0`)))
	for seed := uint64(0); len(out) < 6; seed++ {
		if series := randomBlock(newRand(seed)); len(series) < 400 {
			out = append(out, objectOf(f, series))
		}
	}
	return out
}

// FuzzSearch reads a directory and an index that are valid but for their contents.
func FuzzSearch(f *testing.F) {
	for _, o := range seedObjects(f) {
		directory, err := blockcolumns.Unpack(o.part(o.DirectorySpan()))
		require.NoError(f, err)
		for _, name := range []string{"cpu", "lat", "up", "metric_0", "metric_1", "metric_2", "metric_3"} {
			m, found, err := o.metric(name)
			require.NoError(f, err)
			if !found || m.LeftOut {
				f.Add(directory, []byte{}, name, "instance", "a")
				continue
			}
			for _, s := range m.Segments[:1] {
				index, err := blockcolumns.Unpack(o.part(s.Index))
				require.NoError(f, err)
				f.Add(directory, index, name, append(m.Order, "instance")[0], "a|b")
			}
		}
	}
	f.Fuzz(func(t *testing.T, directory, index []byte, name, label, value string) {
		packed := blockcolumns.Pack(directory)
		o := blockcolumns.Object{Directory: int64(len(packed)), Size: 1<<20 + int64(len(packed))}
		_, _ = blockcolumns.ParseDirectory(o, directory) // it has no checksum
		d, err := blockcolumns.ParseDirectory(o, packed)
		if err != nil {
			require.True(t, blockcolumns.IsCorrupt(err))
			return
		}
		m, found, err := d.Metric(name)
		if err != nil {
			require.True(t, blockcolumns.IsCorrupt(err))
		}
		if !found || m.LeftOut {
			return
		}
		checkMetric(t, &m, 1<<20)
		var ms []*labels.Matcher
		for _, typ := range []labels.MatchType{labels.MatchEqual, labels.MatchNotEqual, labels.MatchRegexp, labels.MatchNotRegexp} {
			if matcher, err := labels.NewMatcher(typ, label, value); err == nil {
				ms = append(ms, matcher)
			}
		}
		for i := range ms {
			checkSearch(t, &m, name, ms[i:i+1], blockcolumns.Pack(index))
		}
		checkSearch(t, &m, name, nil, blockcolumns.Pack(index))
	})
}

// checkMetric checks what callers rely on.
func checkMetric(t *testing.T, m *blockcolumns.Metric, data int64) {
	series, at := 0, m.Chunks.Off
	for _, s := range m.Segments {
		require.Positive(t, s.Series)
		require.Equal(t, at, s.Chunks.Off)
		require.LessOrEqual(t, at, s.Chunks.End)
		series, at = series+s.Series, s.Chunks.End
	}
	require.Equal(t, m.Chunks.End, at)
	require.Equal(t, m.Series, series)
	for _, s := range m.Segments {
		require.Equal(t, at, s.Index.Off)
		require.LessOrEqual(t, at, s.Index.End)
		at = s.Index.End
	}
	require.Equal(t, m.Index.End, at)
	require.LessOrEqual(t, at, data)
	require.Equal(t, m.Segments, m.Candidates(nil))
}

// checkSearch reads an index as that of each candidate.
func checkSearch(t *testing.T, m *blockcolumns.Metric, name string, ms []*labels.Matcher, index []byte) {
	s, ok := m.Search(name, ms)
	if !ok {
		return
	}
	for _, segment := range m.Candidates(ms) {
		found, err := s.Append(nil, segment, index)
		if err != nil {
			require.True(t, blockcolumns.IsCorrupt(err))
			require.Empty(t, found)
			continue
		}
		require.LessOrEqual(t, len(found), segment.Series)
		at := segment.Chunks.Off
		seen := map[string]bool{}
		for _, series := range found {
			require.LessOrEqual(t, at, series.Chunks.Off)
			require.LessOrEqual(t, series.Chunks.Off, series.Chunks.End)
			at = series.Chunks.End
			checkLabels(t, series.Labels, name, ms)
			require.False(t, seen[series.Labels.String()], "%s twice", series.Labels)
			seen[series.Labels.String()] = true
		}
		require.LessOrEqual(t, at, segment.Chunks.End)
	}
}

// checkLabels checks that labels are in order and match.
func checkLabels(t *testing.T, lset labels.Labels, name string, ms []*labels.Matcher) {
	before, size := "", 0
	lset.Range(func(l labels.Label) {
		require.Greater(t, l.Name, before)
		require.NotEmpty(t, l.Value)
		before, size = l.Name, size+len(l.Name)+len(l.Value)
	})
	require.LessOrEqual(t, size, blockcolumns.MaxLabelBytes)
	require.Equal(t, name, lset.Get(model.MetricNameLabel))
	for _, m := range ms {
		require.True(t, m.Matches(lset.Get(m.Name)), "%s for %s", lset, m)
	}
}

// FuzzDecodeChunks reads the chunks of a series, valid but for their contents.
func FuzzDecodeChunks(f *testing.F) {
	for _, o := range seedObjects(f) {
		for _, name := range []string{"cpu", "metric_0", "metric_1"} {
			m, _, err := o.metric(name)
			require.NoError(f, err)
			search, _ := m.Search(name, nil)
			for _, s := range m.Segments[:min(1, len(m.Segments))] {
				found, err := search.Append(nil, s, o.part(s.Index))
				require.NoError(f, err)
				for _, series := range found[:min(3, len(found))] {
					b := o.part(series.Chunks)
					f.Add(b[:len(b)-4])
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		_, _ = blockcolumns.DecodeChunks(nil, body) // it has no checksum
		b := binary.LittleEndian.AppendUint32(slices.Clone(body), crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
		chunks, err := blockcolumns.DecodeChunks(nil, b)
		if err != nil {
			require.True(t, blockcolumns.IsCorrupt(err))
			require.Empty(t, chunks)
			return
		}
		size := 0
		for _, c := range chunks {
			if c.MinTime > c.MaxTime || c.Encoding != chunkenc.EncXOR && c.Encoding != chunkenc.EncXOR2 && c.Encoding != columnchunk.Encoding {
				t.Fatalf("chunk %v", c)
			}
			size += len(c.Bytes)
		}
		require.LessOrEqual(t, size+1+4*len(chunks), len(body))
		if len(chunks) > 0 {
			require.True(t, strings.HasSuffix(string(body), string(chunks[len(chunks)-1].Bytes)))
		}
	})
}

// FuzzParseName reads names of files.
func FuzzParseName(f *testing.F) {
	for _, o := range seedObjects(f) {
		f.Add(o.Rel)
	}
	f.Add("index")
	f.Fuzz(func(t *testing.T, rel string) {
		o, ok := blockcolumns.ParseName(rel)
		if !ok {
			require.Zero(t, o)
			return
		}
		require.Equal(t, rel, o.Rel)
		s := o.DirectorySpan()
		require.Positive(t, s.Off)
		require.Greater(t, s.Len(), int64(4))
		require.Equal(t, o.Size, s.End)
	})
}
