package blockcolumns

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/columnchunk"
)

// data is the number of bytes before the directory in these tests.
const data = 16 * align

// allocated is the number of bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// directoryOf parses a directory with the encoded entry of one metric.
func directoryOf(t testing.TB, entry []byte) *Directory {
	t.Helper()
	b := pack(nil, append([]byte{1, 0, 0, 0, 0, 0, 0, 0}, entry...))
	d, err := ParseDirectory(newObject(int64(len(b)), data+int64(len(b))), b)
	require.NoError(t, err)
	return d
}

// valid is a metric with two segments.
func valid() *Metric {
	return &Metric{
		Constant: []labels.Label{{Name: "job", Value: "node"}}, Order: []string{"instance", "mode"}, Chunks: Span{8, 8},
		Segments: []Segment{
			{Series: 2, Chunks: Span{0, 100}, Index: Span{0, 50}},
			{Series: 1, from: "b", Chunks: Span{0, 70}, Index: Span{0, 40}},
		},
	}
}

func TestDirectory_ReadsAMetric(t *testing.T) {
	m, found, err := directoryOf(t, appendMetric(nil, "cpu", valid())).Metric("cpu")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, Metric{
		Constant: []labels.Label{{Name: "job", Value: "node"}}, Order: []string{"instance", "mode"},
		Series: 3, Chunks: Span{8, 178}, Index: Span{178, 268},
		Segments: []Segment{
			{Series: 2, until: "b", Chunks: Span{8, 108}, Index: Span{178, 228}},
			{Series: 1, from: "b", Chunks: Span{108, 178}, Index: Span{228, 268}},
		},
	}, m)
}

func TestDirectory_RefusesMetricsBeyondItsBounds(t *testing.T) {
	many := func(n int) (names []string) {
		for i := range n {
			names = append(names, fmt.Sprintf("l%06d", i))
		}
		return names
	}
	for name, change := range map[string]func(m *Metric){
		"a constant without a value":           func(m *Metric) { m.Constant[0].Value = "" },
		"a constant without a name":            func(m *Metric) { m.Constant[0].Name = "" },
		"a constant __name__":                  func(m *Metric) { m.Constant[0].Name = model.MetricNameLabel },
		"a label without a name":               func(m *Metric) { m.Order[0] = "" },
		"__name__ in the order":                func(m *Metric) { m.Order[1] = model.MetricNameLabel },
		"a label twice in the order":           func(m *Metric) { m.Order[1] = "instance" },
		"a label twice among constants":        func(m *Metric) { m.Constant = append(m.Constant, m.Constant[0]) },
		"a label that is constant and is not":  func(m *Metric) { m.Order[1] = "job" },
		"more labels than 256":                 func(m *Metric) { m.Order = many(256) },
		"many labels":                          func(m *Metric) { m.Order = many(100_000) },
		"long names":                           func(m *Metric) { m.Order[0] = strings.Repeat("x", maxLabelBytes) },
		"a long constant":                      func(m *Metric) { m.Constant[0].Value = strings.Repeat("x", maxLabelBytes) },
		"it begins at 2^63":                    func(m *Metric) { m.Chunks.Off = math.MinInt64 },
		"it begins behind the chunks":          func(m *Metric) { m.Chunks.Off = data + 1 },
		"it ends behind the chunks":            func(m *Metric) { m.Chunks.Off = data - 259 },
		"a segment without series":             func(m *Metric) { m.Segments[0].Series = 0 },
		"a segment of many series":             func(m *Metric) { m.Segments[0].Series = maxSegmentSeries + 1 },
		"a segment of many bytes":              func(m *Metric) { m.Segments[0].Chunks.End = data },
		"a segment of more bytes than int64":   func(m *Metric) { m.Segments[0].Chunks.End = -1 },
		"a large index":                        func(m *Metric) { m.Segments[1].Index.End = maxIndex + 1 },
		"an index behind the chunks":           func(m *Metric) { m.Segments[1].Index.End = data },
		"the first segment begins with a key":  func(m *Metric) { m.Segments[0].from = "a" },
		"segments that begin with the same":    func(m *Metric) { m.Segments[1].from = "" },
		"segments in another order":            func(m *Metric) { m.Segments = append(m.Segments, Segment{Series: 1, from: "a"}) },
		"a long key":                           func(m *Metric) { m.Segments[1].from = strings.Repeat("x", maxKey+1) },
		"segments whose bytes exceed an int64": func(m *Metric) { m.Segments = overflowing() },
		"many segments": func(m *Metric) {
			for i := range maxSegments {
				m.Segments = append(m.Segments, Segment{Series: 1, from: fmt.Sprintf("c%08d", i)})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := valid()
			change(m)
			d := directoryOf(t, appendMetric(nil, "cpu", m))
			_, found, err := d.Metric("cpu")
			require.True(t, IsCorrupt(err), "%v", err)
			require.False(t, found)
			_, found, err = d.Metric("a")
			require.NoError(t, err, "another metric is looked for, and is not there")
			require.False(t, found)
		})
	}
	entry := appendMetric(nil, "cpu", valid())
	for n := 4; n < len(entry); n++ {
		_, _, err := directoryOf(t, entry[:n]).Metric("cpu")
		require.True(t, IsCorrupt(err), "the first %d bytes: %v", n, err)
	}
	entry[4] = 2
	_, _, err := directoryOf(t, entry).Metric("cpu")
	require.True(t, IsCorrupt(err), "neither left out nor there: %v", err)

	// In an object of 1 GiB an index has 4 MiB at most too, and fewer for few series.
	for series, most := range map[int]int64{1: maxSeriesIndex, 2: 2 * maxSeriesIndex, 1000: maxIndex, maxSegmentSeries: maxIndex} {
		for _, more := range []int64{0, 1} {
			m := valid()
			m.Segments[0].Series, m.Segments[0].Index.End = series, most+more
			d := directoryOf(t, appendMetric(nil, "cpu", m))
			d.object.Size += 1 << 30
			_, _, err = d.Metric("cpu")
			require.Equal(t, more > 0, IsCorrupt(err), "%d series: %v", series, err)
		}
	}
}

// overflowing are segments whose bytes add up to 100 modulo 2^64.
func overflowing() (out []Segment) {
	for i := range 5 {
		out = append(out, Segment{Series: 1, from: strings.Repeat("a", i), Chunks: Span{0, 1 << 62}})
	}
	out[4].Chunks.End = 100
	return out
}

func TestDirectory_RefusesWhatIsNone(t *testing.T) {
	o := newObject(4096, data+4096)
	for name, b := range map[string][]byte{
		"nothing":                  nil,
		"no checksum":              {1, 2, 3},
		"only a checksum":          pack(nil, nil)[1:],
		"empty":                    pack(nil, nil),
		"more metrics than bytes":  pack(nil, []byte{255, 255, 255, 255, 0, 0, 0, 0}),
		"a position for each byte": pack(nil, []byte{2, 0, 0, 0, 0, 0, 0, 0}),
	} {
		_, err := ParseDirectory(o, b)
		require.True(t, IsCorrupt(err), "%s: %v", name, err)
	}
	d, err := ParseDirectory(o, pack(nil, []byte{1, 0, 0, 0, 255, 255, 255, 255}))
	require.NoError(t, err)
	_, found, err := d.Metric("")
	require.True(t, IsCorrupt(err), "an entry behind the end: %v", err)
	require.False(t, found)
}

func crc(b []byte) uint32 { return crc32.Checksum(b, castagnoli()) }

// packed has a checksum and announces so many bytes.
func packed(announced uint64) []byte {
	b := append(binary.AppendUvarint(nil, announced), 0)
	return binary.LittleEndian.AppendUint32(b, crc(b))
}

func TestUnpack_BoundsMemoryBeforeItAllocates(t *testing.T) {
	o := newObject(4096, data+4096)
	for _, n := range []uint64{maxPlain + 1, math.MaxUint32, math.MaxUint64} {
		b := packed(n)
		require.Less(t, allocated(func() {
			_, err := ParseDirectory(o, b)
			require.True(t, IsCorrupt(err), "%v", err)
		}), uint64(1<<16))
		require.Zero(t, Unpacked(b))
	}
	// A small part may be large unpacked; the caller knows it before.
	bomb := pack(nil, make([]byte, maxPlain))
	require.Less(t, len(bomb), 10_000)
	require.EqualValues(t, maxPlain, Unpacked(bomb))
	require.Less(t, allocated(func() {
		d, err := ParseDirectory(o, bomb)
		require.NoError(t, err)
		_, _, err = d.Metric("x")
		require.NoError(t, err)
	}), uint64(maxPlain+1<<20))

	s, ok := valid().Search("cpu", nil)
	require.True(t, ok)
	require.Less(t, allocated(func() {
		_, err := s.Append(nil, Segment{Series: 1}, bomb)
		require.True(t, IsCorrupt(err), "%v", err)
	}), uint64(1<<16))
	require.Zero(t, Unpacked(nil))
	require.Zero(t, Unpacked([]byte{1, 2, 3}))
}

// indexOf encodes an index: numbers as uvarints, texts as values that are new.
func indexOf(parts ...any) (b []byte) {
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = binary.AppendUvarint(b, uint64(p))
		case string:
			b = appendText(append(b, 0), p)
		}
	}
	return b
}

func TestSearcher_ReadsAnIndex(t *testing.T) {
	var e indexEncoder
	for range 2 { // an encoder is used again
		e.reset()
		e.add([]string{"a", "idle"}, 10)
		e.add([]string{"a", "user"}, 20)
		e.add([]string{"b", "idle"}, 30)
		require.Equal(t, indexOf(0, "a", "idle", 10, 1, "user", 20, 0, "b", 2, 30), e.b)
	}
	s, ok := valid().Search("cpu", []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "mode", "idle")})
	require.True(t, ok)
	found, err := s.Append(make([]Found, 1), Segment{Series: 3, Chunks: Span{100, 160}}, pack(nil, e.b))
	require.NoError(t, err)
	require.Equal(t, []Found{
		{},
		{labels.FromStrings(model.MetricNameLabel, "cpu", "instance", "a", "job", "node", "mode", "idle"), Span{100, 110}},
		{labels.FromStrings(model.MetricNameLabel, "cpu", "instance", "b", "job", "node", "mode", "idle"), Span{130, 160}},
	}, found)
}

func TestSearcher_RefusesIndexesBeyondTheirBounds(t *testing.T) {
	long := strings.Repeat("x", maxLabelBytes)
	for _, tc := range []struct {
		name    string
		segment Segment
		index   []byte
	}{
		{"nothing", Segment{Series: 1}, nil},
		{"it ends within a series", Segment{Series: 2, Chunks: Span{0, 9}}, indexOf(0, "a", "b", 1, 1)},
		{"it goes on behind the last series", Segment{Series: 1, Chunks: Span{0, 1}}, indexOf(0, "a", "b", 1, 0)},
		{"the first series shares labels", Segment{Series: 1, Chunks: Span{0, 1}}, indexOf(1, "a", 1)},
		{"a series shares more labels than there are", Segment{Series: 2, Chunks: Span{0, 2}}, indexOf(0, "a", "b", 1, 3, 1)},
		{"a series shares 2^63 labels", Segment{Series: 2, Chunks: Span{0, 2}}, indexOf(0, "a", "b", 1, math.MinInt, 1)},
		{"the same series twice", Segment{Series: 2, Chunks: Span{0, 2}}, indexOf(0, "a", "b", 1, 2, 1)},
		{"the same series twice, written out", Segment{Series: 2, Chunks: Span{0, 2}}, indexOf(0, "a", "b", 1, 0, 1, 2, 1)},
		{"another order", Segment{Series: 2, Chunks: Span{0, 2}}, indexOf(0, "a", "b", 1, 1, "a", 1)},
		{"a value that is not there", Segment{Series: 1, Chunks: Span{0, 1}}, indexOf(0, "a", 2, 1)},
		{"a value of 2^63", Segment{Series: 1, Chunks: Span{0, 1}}, indexOf(0, "a", math.MinInt, 1)},
		{"a text longer than the index", Segment{Series: 1, Chunks: Span{0, 1}}, indexOf(0, 0, 100, 1)},
		{"a text of 2^63 bytes", Segment{Series: 1, Chunks: Span{0, 1}}, indexOf(0, 0, math.MinInt, 1)},
		{"chunks behind those of the segment", Segment{Series: 1, Chunks: Span{5, 6}}, indexOf(0, "a", "b", 2)},
		{"chunks of 2^63 bytes", Segment{Series: 1, Chunks: Span{5, 6}}, indexOf(0, "a", "b", math.MinInt)},
		{"chunks that go back", Segment{Series: 2, Chunks: Span{5, 7}}, indexOf(0, "a", "b", -1, 0, "c", 2, 3)},
		{"chunks that are not all", Segment{Series: 1, Chunks: Span{5, 7}}, indexOf(0, "a", "b", 1)},
		{"a series before the segment", Segment{Series: 1, from: "b", Chunks: Span{5, 6}}, indexOf(0, "a", "b", 1)},
		{"a series behind the segment", Segment{Series: 2, until: "c", Chunks: Span{5, 7}}, indexOf(0, "a", "b", 1, 0, "c", 2, 1)},
		{"long labels", Segment{Series: 1, Chunks: Span{5, 6}}, indexOf(0, "a", long, 1)},
	} {
		s, ok := valid().Search("cpu", nil)
		require.True(t, ok)
		before := []Found{{Chunks: Span{1, 2}}}
		found, err := s.Append(before, tc.segment, pack(nil, tc.index))
		require.True(t, IsCorrupt(err), "%s: %v", tc.name, err)
		require.Equal(t, before, found)
	}
	s, ok := valid().Search("cpu", []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "mode", "b")})
	require.True(t, ok)
	_, err := s.Append(nil, Segment{Series: 1, Chunks: Span{0, 1}}, pack(nil, indexOf(0, "a", strings.Repeat("x", maxKey), 1)))
	require.True(t, IsCorrupt(err), "a long value of a series that does not match: %v", err)
	s, ok = (&Metric{}).Search("cpu", nil)
	require.True(t, ok)
	_, err = s.Append(nil, Segment{Series: 2, Chunks: Span{0, 2}}, pack(nil, indexOf(0, 1, 0, 1)))
	require.True(t, IsCorrupt(err), "two series without labels: %v", err)
	found, err := s.Append(nil, Segment{Series: 1, Chunks: Span{0, 1}}, pack(nil, indexOf(0, 1)))
	require.NoError(t, err)
	require.Equal(t, []Found{{labels.FromStrings(model.MetricNameLabel, "cpu"), Span{0, 1}}}, found)
}

func TestSearcher_TakesMemoryOfWhatItReads(t *testing.T) {
	s, ok := valid().Search("cpu", nil)
	require.True(t, ok)
	few := pack(nil, indexOf(0, "a", "b", 1))
	require.Less(t, allocated(func() {
		_, err := s.Append(nil, Segment{Series: maxSegmentSeries, Chunks: Span{0, maxSegmentSeries}}, few)
		require.True(t, IsCorrupt(err), "%v", err)
	}), uint64(1<<16), "series that are announced")

	// All series have 200 long values, which the index has once.
	m := &Metric{Order: []string{"first"}}
	index := indexOf(0, "b")
	for i := range 200 {
		m.Order = append(m.Order, fmt.Sprint("l", i))
		index = append(index, indexOf(strings.Repeat(string(rune('a'+i%26)), maxLabelBytes-1000))...)
	}
	index = append(index, 1)
	for i := range maxSegmentSeries - 1 {
		index = append(index, indexOf(0, fmt.Sprintf("b%05d", i))...)
		for i := range 200 {
			index = append(index, indexOf(i+2)...)
		}
		index = append(index, 1)
	}
	require.Less(t, len(index), maxIndex)
	b := pack(nil, index)
	s, ok = m.Search("cpu", nil)
	require.True(t, ok)
	require.Less(t, allocated(func() {
		_, err := s.Append(nil, Segment{Series: maxSegmentSeries, Chunks: Span{0, maxSegmentSeries}}, b)
		require.True(t, IsCorrupt(err), "%v", err)
	}), uint64(8<<20), "values that are referred to")
}

func TestDecodeChunks_KeepsAllTimes(t *testing.T) {
	want := []Chunk{
		{MinTime: 5, MaxTime: 10, Encoding: chunkenc.EncXOR, Bytes: []byte("one")},
		{MinTime: 5, MaxTime: 10, Encoding: columnchunk.Encoding, Bytes: []byte("the same times")},
		{MinTime: 7, MaxTime: 7, Encoding: chunkenc.EncXOR2, Bytes: []byte{}},
		{MinTime: math.MinInt64, MaxTime: math.MaxInt64, Encoding: chunkenc.EncXOR, Bytes: []byte("all times")},
		{MinTime: math.MinInt64, MaxTime: math.MinInt64, Encoding: chunkenc.EncXOR, Bytes: []byte("first")},
		{MinTime: math.MaxInt64, MaxTime: math.MaxInt64, Encoding: chunkenc.EncXOR, Bytes: []byte("last")},
		{MinTime: -1, MaxTime: 0, Encoding: chunkenc.EncXOR, Bytes: []byte("around zero")},
	}
	before := Chunk{MinTime: 3}
	got, err := DecodeChunks([]Chunk{before}, appendChunks(nil, want))
	require.NoError(t, err)
	require.Equal(t, append([]Chunk{before}, want...), got)
	got, err = DecodeChunks(nil, appendChunks(nil, nil))
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestDecodeChunks_RefusesChunksBeyondTheirBounds(t *testing.T) {
	whole := appendChunks(nil, []Chunk{{MinTime: 1, MaxTime: 2, Encoding: chunkenc.EncXOR, Bytes: []byte("abc")}, {MinTime: 3, MaxTime: 4, Encoding: chunkenc.EncXOR, Bytes: []byte("d")}})
	body := whole[:len(whole)-crcSize]
	sum := func(b []byte) []byte { return binary.LittleEndian.AppendUint32(append([]byte(nil), b...), crc(b)) }
	bad := map[string][]byte{
		"nothing":                {},
		"a wrong checksum":       append(append([]byte(nil), body...), 1, 2, 3, 4),
		"no number":              sum(nil),
		"more bytes":             sum(append(append([]byte(nil), body...), 'x')),
		"more chunks than bytes": sum([]byte{200, 1, 0}),
		"it ends before begin":   sum(append(binary.AppendUvarint([]byte{1, 0}, math.MaxUint64), byte(chunkenc.EncXOR), 0)),
		"a length of 2^63":       sum(binary.AppendUvarint([]byte{1, 0, 0, byte(chunkenc.EncXOR)}, 1<<63)),
	}
	for n := range body {
		bad[fmt.Sprintf("the first %d bytes", n)] = sum(body[:n])
	}
	for _, enc := range []chunkenc.Encoding{chunkenc.EncNone, chunkenc.EncHistogram, chunkenc.EncFloatHistogram, chunkenc.EncHistogramST, 0x7f, 0xff} {
		bad[fmt.Sprintf("encoding %d", enc)] = appendChunks(nil, []Chunk{{Encoding: enc, Bytes: []byte("abc")}})
	}
	many := binary.AppendUvarint(nil, maxChunks+1)
	for range maxChunks + 1 {
		many = append(many, 0, 0, byte(chunkenc.EncXOR), 0)
	}
	bad["many chunks"] = sum(many)
	for name, b := range bad {
		before := []Chunk{{MinTime: 3}}
		require.Less(t, allocated(func() {
			got, err := DecodeChunks(before, b)
			require.True(t, IsCorrupt(err), "%s: %v", name, err)
			require.Equal(t, before, got)
		}), uint64(1<<16), name)
	}
}

func TestParseName_ReadsItsOwn(t *testing.T) {
	for _, o := range []Object{newObject(5, align+5), newObject(maxDirectory, align+maxDirectory), newObject(1000, maxSize-align+1000), newObject(5, 13), newObject(5, 4100)} {
		got, ok := ParseName(o.Rel)
		require.True(t, ok, o.Rel)
		require.Equal(t, o, got)
		require.Equal(t, Span{o.Size - o.Directory, o.Size}, o.DirectorySpan())
	}
	for _, rel := range []string{
		"", "index", "columns-v1-", "columns-v1-5", "columns-v1-5-", "columns-v2-5-4101", "chunks/columns-v1-5-4101", "columns-v1-5-4101.tmp",
		"columns-v1-05-4101", "columns-v1-+5-4101", "columns-v1-5-4101-", "columns-v1-5-4101-7", "columns-v1-5-12", "columns-v1-5-5",
		"columns-v1-4-4100", "columns-v1-0-4096", "columns-v1--5-4091", "columns-v1-5--4091", "columns-v1-8388609-8392705",
		"columns-v1-5-1099511631877", "columns-v1-5-9223372036854775807", "columns-v1-5-9223372036854775808", "columns-v1-a-b", "columns-v1- 5-4101",
	} {
		_, ok := ParseName(rel)
		require.False(t, ok, rel)
	}
}
