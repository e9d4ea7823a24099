package indexheader

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// writeIndex makes the index of the series, by the writer of the TSDB.
func writeIndex(t testing.TB, series []labels.Labels) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "index")
	w, err := index.NewWriter(context.Background(), file)
	require.NoError(t, err)
	symbols := map[string]struct{}{}
	for _, s := range series {
		s.Range(func(l labels.Label) { symbols[l.Name], symbols[l.Value] = struct{}{}, struct{}{} })
	}
	var sorted []string
	for s := range symbols {
		sorted = append(sorted, s)
	}
	slices.Sort(sorted)
	for _, s := range sorted {
		require.NoError(t, w.AddSymbol(s))
	}
	slices.SortFunc(series, labels.Compare)
	for i, s := range series {
		require.NoError(t, w.AddSeries(storage.SeriesRef(i+1), s))
	}
	require.NoError(t, w.Close())
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	return b
}

func randomSeries(rng *rand.Rand, n, pad int) []labels.Labels {
	seen := map[string]bool{}
	var out []labels.Labels
	for range n {
		b := labels.NewBuilder(labels.EmptyLabels())
		for i := range 6 {
			if rng.IntN(2) == 0 {
				b.Set(fmt.Sprintf("n%d\xffé", i), fmt.Sprint(rng.IntN(1+i*i*i), strings.Repeat("x", rng.IntN(pad+1))))
			}
		}
		if l := b.Labels(); !l.IsEmpty() && !seen[l.String()] {
			seen[l.String()] = true
			out = append(out, l)
		}
	}
	return out
}

// bytesReader is a bucket with one object.
type bytesReader struct {
	bucket.Reader
	b   []byte
	err error
}

func (r *bytesReader) GetRange(_ context.Context, name string, off, length int64) (io.ReadCloser, error) {
	if r.err != nil {
		return nil, r.err
	}
	if off < 0 || off+length > int64(len(r.b)) {
		return nil, fmt.Errorf("range %d+%d of %s leaves the object", off, length, name)
	}
	return io.NopCloser(bytes.NewReader(r.b[off : off+length])), nil
}

func fetch(t testing.TB, b []byte) (*Header, error) {
	return Fetch(t.Context(), &bytesReader{b: b}, "b/index", int64(len(b)), nil)
}

// compare checks the content of the header against the reader of the TSDB.
func compare(t *testing.T, h *Header, b []byte) {
	t.Helper()
	r, err := index.NewReader(index.ByteSlice(byteSlice(b)), index.DecodePostingsRaw)
	require.NoError(t, err)
	names, err := r.LabelNames(t.Context())
	require.NoError(t, err)
	require.Equal(t, names, h.LabelNames())
	ranges, err := r.PostingsRanges()
	require.NoError(t, err)
	n := 0
	for _, name := range names {
		values, err := r.SortedLabelValues(t.Context(), name, nil)
		require.NoError(t, err)
		l := h.Label(name)
		require.Equal(t, len(values), l.Len())
		for i, v := range values {
			require.Equal(t, v, l.Value(i))
			at, ok := l.Find(v)
			require.True(t, ok)
			require.Equal(t, i, at)
			// The reader gives the bytes between length and checksum; the header counts
			// those too, and the padding.
			want := ranges[labels.Label{Name: name, Value: v}]
			got := l.Postings(i)
			require.Equal(t, want.Start, got.Offset+4)
			require.LessOrEqual(t, want.End+4, got.Offset+got.Length)
			require.Less(t, got.Offset+got.Length, want.End+8)
			count := int64(binary.BigEndian.Uint32(b[got.Offset+4:]))
			require.Equal(t, count, got.Count())
			n++
		}
		_, ok := l.Find(values[0] + "\x00")
		require.False(t, ok)
		lo, hi := l.Prefix(values[0][:1])
		for i, v := range values {
			require.Equal(t, strings.HasPrefix(v, values[0][:1]), i >= lo && i < hi)
		}
	}
	require.Zero(t, h.Label("absent").Len())
	require.Equal(t, ranges[labels.Label{}].Start, h.AllPostings().Offset+4)
	iter := r.Symbols()
	for i := uint32(0); iter.Next(); i++ {
		s, err := h.Symbol(i)
		require.NoError(t, err)
		require.Equal(t, iter.At(), s)
	}
	_, err = h.Symbol(1 << 31)
	require.ErrorIs(t, err, ErrCorrupt)
	require.Positive(t, n)
}

func TestHeader_AgreesWithIndexReader(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ series, pad int }{{1, 1}, {3, 5}, {100, 10}, {2000, 30}, {3000, 4000}} {
		b := writeIndex(t, randomSeries(rng, c.series, c.pad))
		h, err := fetch(t, b)
		require.NoError(t, err)
		compare(t, h, b)

		file := filepath.Join(t.TempDir(), "header")
		require.NoError(t, h.WriteFile(vfs.OS(), file))
		mapped, err := OpenFile(file)
		require.NoError(t, err)
		compare(t, mapped, b)
		require.Equal(t, int64(len(b)), mapped.IndexSize())
		require.NoError(t, mapped.Close())
		require.NoError(t, h.Close())
	}
}

func TestFetch_AcceptsEmptyIndex(t *testing.T) {
	h, err := fetch(t, writeIndex(t, nil))
	require.NoError(t, err)
	require.Empty(t, h.LabelNames())
	require.Zero(t, h.AllPostings().Count())
}

// TestFetch_ReadsBigIndexInTwoRounds has ends that do not hold everything at once.
func TestFetch_ReadsBigIndexInTwoRounds(t *testing.T) {
	for _, pad := range []int{40, 3000} {
		var series []labels.Labels
		for i := range 30_000 / (1 + pad/500) {
			series = append(series, labels.FromStrings("name", fmt.Sprint(i, strings.Repeat("y", pad)), "other", fmt.Sprint(i*7)))
		}
		b := writeIndex(t, series)
		require.Greater(t, len(b), wholeSize)
		h, err := fetch(t, b)
		require.NoError(t, err)
		compare(t, h, b)
	}
}

// TestFetch_DetectsDamageOfIndex changes each byte: the damage is an error, or in a part that
// the header does not need.
func TestFetch_DetectsDamageOfIndex(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	orig := writeIndex(t, randomSeries(rng, 50, 5))
	want, err := fetch(t, orig)
	require.NoError(t, err)
	for range 2000 {
		b := bytes.Clone(orig)
		for range 1 + rng.IntN(3) {
			b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		}
		h, err := fetch(t, b)
		if err != nil {
			require.ErrorIs(t, err, ErrCorrupt)
			continue
		}
		require.Equal(t, want.b, h.b)
	}
	for n := range len(orig) {
		_, err := fetch(t, orig[:n])
		require.ErrorIs(t, err, ErrCorrupt, "%d bytes", n)
	}
	down := errors.New("down")
	_, err = Fetch(t.Context(), &bytesReader{err: down}, "b/index", 1000, nil)
	require.ErrorIs(t, err, down)
	require.NotErrorIs(t, err, ErrCorrupt)
}

func TestOpenFile_DetectsDamage(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	h, err := fetch(t, writeIndex(t, randomSeries(rng, 50, 5)))
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "header")
	_, err = OpenFile(file)
	require.ErrorIs(t, err, fs.ErrNotExist)
	for range 500 {
		b := bytes.Clone(h.b)
		b[rng.IntN(len(b))] ^= 1 << rng.IntN(8)
		require.NoError(t, os.WriteFile(file, b, 0o666))
		_, err := OpenFile(file)
		require.ErrorIs(t, err, ErrCorrupt)
		_, err = parse(h.b[:rng.IntN(len(h.b))])
		require.ErrorIs(t, err, ErrCorrupt)
	}
	require.Error(t, h.WriteFile(vfs.OS(), filepath.Join(t.TempDir(), "no", "directory")))
}

// use reads everything that a header refers to.
func use(h *Header) {
	for i := range h.symbolCount {
		if _, err := h.Symbol(i); err != nil {
			panic(err)
		}
	}
	for _, n := range h.LabelNames() {
		l := h.Label(n)
		for i := range l.Len() {
			_, _ = l.Value(i), l.Postings(i).Count()
		}
		l.Find(n)
		l.Prefix(n)
	}
}

// FuzzParse gives headers with a right checksum and wrong content.
func FuzzParse(f *testing.F) {
	h, err := fetch(f, writeIndex(f, randomSeries(rand.New(rand.NewPCG(7, 8)), 5, 3)))
	require.NoError(f, err)
	f.Add(h.b[:len(h.b)-crcSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		b = binary.LittleEndian.AppendUint32(bytes.Clone(b), crc32.Checksum(b, castagnoli()))
		if h, err := parse(b); err == nil {
			use(h)
		}
	})
}

// FuzzBuild gives sections with right checksums and wrong content.
func FuzzBuild(f *testing.F) {
	b := writeIndex(f, randomSeries(rand.New(rand.NewPCG(9, 8)), 5, 3))
	t, err := readTOC(b, int64(len(b)))
	require.NoError(f, err)
	section := func(off int64) []byte {
		return b[off+4 : off+4+int64(binary.BigEndian.Uint32(b[off:]))]
	}
	f.Add(section(t.symbols), section(t.postingsTable), t.series, t.postings, t.postingsTable)
	f.Fuzz(func(_ *testing.T, symbols, postings []byte, series, lists, table int64) {
		frame := func(b []byte) []byte {
			out := binary.BigEndian.AppendUint32(nil, uint32(len(b)))
			return binary.BigEndian.AppendUint32(append(out, b...), crc32.Checksum(b, castagnoli()))
		}
		if series < 0 || lists < series || table < lists {
			return // readTOC refuses these
		}
		out, err := build(sections{
			size: table + 100, version: 2, symbols: frame(symbols), postings: frame(postings),
			toc: toc{symbols: 5, series: series, postings: lists, postingsTable: table},
		})
		if err != nil {
			return
		}
		if h, err := parse(out); err == nil {
			use(h)
		}
	})
}
