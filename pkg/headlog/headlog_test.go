package headlog_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"github.com/golang/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/headlog"
)

func walName() headlog.Name {
	return headlog.Name{Seq: 7, Kind: headlog.KindWAL, Segment: 3, From: 10, End: 4000, MinTime: -5, MaxTime: 1_700_000_000_000}
}

// piece returns a piece with n records of random sizes and codecs, and the records.
func piece(t testing.TB, seed uint64, n int) ([]byte, [][]byte) {
	rng := rand.New(rand.NewPCG(seed, 0))
	w, err := headlog.NewWriter(seed%2 == 0)
	require.NoError(t, err)
	w.Grow(n)
	enc, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	w.Reset()
	var records [][]byte
	for range n {
		rec := bytes.Repeat([]byte(fmt.Sprintf("record %d ", rng.IntN(1000))), 1+rng.IntN(300))
		records = append(records, rec)
		switch rng.IntN(3) {
		case 0:
			require.NoError(t, w.Add(headlog.CodecNone, rec))
		case 1:
			require.NoError(t, w.Add(headlog.CodecSnappy, snappy.Encode(nil, rec)))
		case 2:
			require.NoError(t, w.Add(headlog.CodecZstd, enc.EncodeAll(rec, nil)))
		}
	}
	require.Equal(t, n, w.Records())
	b, err := w.Finish(walName(), 99)
	require.NoError(t, err)
	return slices.Clone(b), records
}

// read returns the records of a piece that is named walName.
func read(r io.Reader) ([][]byte, error) {
	p, err := headlog.NewReader(r, walName())
	if err != nil {
		return nil, err
	}
	defer p.Close()
	var out [][]byte
	for p.Next() {
		out = append(out, bytes.Clone(p.Record()))
	}
	return out, p.Err()
}

func TestReader_ReturnsWrittenRecordsInOrder(t *testing.T) {
	for seed := range uint64(20) {
		b, want := piece(t, seed, int(seed*seed*5))
		got, err := read(iotest.HalfReader(bytes.NewReader(b)))
		require.NoError(t, err)
		require.Equal(t, want, got)
		n, sum, err := headlog.DecodeHeader(b[:headlog.HeaderSize])
		require.NoError(t, err)
		require.Equal(t, walName(), n)
		require.EqualValues(t, 99, sum)
	}
}

func TestReader_RefusesEachChangedBitAndEachShorterPiece(t *testing.T) {
	b, want := piece(t, 1, 20)
	check := func(b []byte, what string) {
		got, err := read(bytes.NewReader(b))
		require.Error(t, err, what)
		require.LessOrEqual(t, len(got), len(want))
		require.Equal(t, want[:len(got)], append([][]byte{}, got...), "records before the damage are right: %s", what)
	}
	for i := range b {
		broken := bytes.Clone(b)
		broken[i] ^= 1 << (i % 8)
		check(broken, fmt.Sprint("bit of byte ", i))
		check(b[:i], fmt.Sprint("length ", i))
	}
	check(append(bytes.Clone(b), 0), "a byte more")
}

func TestReader_RefusesPieceOfAnotherName(t *testing.T) {
	b, _ := piece(t, 1, 3)
	other := walName()
	other.MaxTime++
	_, err := headlog.NewReader(bytes.NewReader(b), other)
	require.ErrorIs(t, err, headlog.ErrCorrupt)
}

// A record may announce more bytes than a decoder should get memory for.
func TestReader_RefusesRecordsThatExpandBeyondBounds(t *testing.T) {
	w, err := headlog.NewWriter(true)
	require.NoError(t, err)
	for _, payload := range [][]byte{
		{0xff, 0xff, 0xff, 0x7f, 0}, // 256 MiB less one in five bytes
		{0xff, 0xff, 0xff, 0xff, 0x0f, 0},
	} {
		w.Reset()
		require.NoError(t, w.Add(headlog.CodecSnappy, payload))
		b, err := w.Finish(walName(), 0)
		require.NoError(t, err)
		_, err = read(bytes.NewReader(b))
		require.ErrorIs(t, err, headlog.ErrCorrupt)
	}
	require.Error(t, w.Add(headlog.CodecNone, nil))
	_, err = w.Finish(headlog.Name{Kind: "unknown", End: 1}, 0)
	require.Error(t, err)
}

func TestName_SortsAsItsNumbersAndParsesOnlyItsOwnForm(t *testing.T) {
	names := []headlog.Name{
		{Seq: 1, Kind: headlog.KindCheckpoint, Segment: 2, From: 0, End: 5},
		{Seq: 2, Kind: headlog.KindCarried, Segment: 2, From: 0, End: 5, MinTime: -9, MaxTime: -8},
		{Seq: 9, Kind: headlog.KindSeries, Segment: 3, From: 0, End: 100},
		{Seq: 10, Kind: headlog.KindWBL, Segment: 0, From: 0, End: 100, MinTime: 1, MaxTime: 2},
		{Seq: 100, Kind: headlog.KindWAL, Segment: 3, From: 0, End: 100, MinTime: 1, MaxTime: 2},
	}
	var last string
	for _, n := range names {
		s := n.String()
		require.Greater(t, s, last)
		last = s
		got, ok := headlog.ParseName(s)
		require.True(t, ok, s)
		require.Equal(t, n, got)
	}
	for _, s := range []string{
		"", "source.json", "1.wal.1.0.1.0.0",
		"0000000001.wal.00000002.000000000000.000000000005",            // no times
		"0000000001.series.00000002.000000000000.000000000005.1.2",     // times
		"0000000001.wal.00000002.000000000005.000000000005.1.2",        // empty range
		"0000000001.wal.00000002.000000000000.000000000005.2.1",        // times in the wrong order
		"0000000001.wal.00000002.000000000000.000000000005.+1.2",       // sign
		"0000000001.log.00000002.000000000000.000000000005.1.2",        // kind
		"0000000001.wal.00000002.000000000000.000000000005.1.2.tmp",    // more
		"00000000001.wal.00000002.000000000000.000000000005.1.2",       // digits
		"0000000001.wal.-0000002.000000000000.000000000005.1.2",        // negative
		"0000000001.wal.00000002.000000000000.0000000000000000005.1.2", // digits
	} {
		_, ok := headlog.ParseName(s)
		require.False(t, ok, s)
	}
}

func TestListing_GroupsPiecesByGeneration(t *testing.T) {
	a, b := headlog.Source(labels.FromStrings("a", "1")), headlog.Source(labels.FromStrings("a", "2"))
	require.NotEqual(t, a, b)
	require.NotEqual(t, headlog.Source(labels.FromStrings("a", "bc")), headlog.Source(labels.FromStrings("ab", "c")))
	id1, id2 := ulid.MustNew(1000, nil), ulid.MustNew(2000, nil)
	n := walName()
	second := n
	second.Seq++
	now := time.Unix(100, 0)
	var l headlog.Listing
	l.Add(headlog.GenerationDir(a, id2)+"/"+second.String(), 5, now.Add(time.Minute))
	l.Add(headlog.GenerationDir(a, id2)+"/"+n.String(), 4, now)
	l.Add(headlog.GenerationDir(a, id1)+"/"+headlog.InfoName, 10, now)
	l.Add(headlog.Dir+"/"+a+"/"+id1.String()+"/other", 1, now)
	l.Add(headlog.Dir+"/x/"+id1.String()+"/"+n.String(), 1, now)
	l.Add("01ARZ3NDEKTSV4RRFFQ69G5FAV/meta.json", 1, now)
	got := l.Generations()
	require.Len(t, got, 2)
	require.Equal(t, 3, l.Ignored)
	require.True(t, got[0].HasInfo)
	require.Equal(t, headlog.GenerationDir(a, id1), got[0].Dir())
	require.False(t, got[1].HasInfo)
	require.Equal(t, now.Add(time.Minute), got[1].Modified)
	require.Equal(t, []headlog.Name{n, second}, []headlog.Name{got[1].Pieces[0].Name, got[1].Pieces[1].Name})
}

func TestInfo_BelongsToItsSource(t *testing.T) {
	ls := labels.FromStrings("cluster", "eu", "replica", "0")
	b, err := headlog.EncodeInfo(ls, 123)
	require.NoError(t, err)
	info, err := headlog.DecodeInfo(headlog.Source(ls), b)
	require.NoError(t, err)
	require.Equal(t, ls.Map(), info.Labels)
	require.EqualValues(t, 123, info.Created)
	_, err = headlog.DecodeInfo(headlog.Source(labels.FromStrings("cluster", "us")), b)
	require.ErrorContains(t, err, "its labels are those of source")
	_, err = headlog.DecodeInfo(headlog.Source(ls), bytes.Replace(b, []byte(`"version": 1`), []byte(`"version": 2`), 1))
	require.ErrorContains(t, err, "version is 2")
	_, err = headlog.DecodeInfo(headlog.Source(ls), make([]byte, headlog.MaxInfo+1))
	require.Error(t, err)
}

func FuzzReader(f *testing.F) {
	for seed := range uint64(3) {
		b, _ := piece(f, seed, int(seed)*4)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < headlog.HeaderSize {
			return
		}
		n, _, err := headlog.DecodeHeader(b)
		if err != nil {
			return
		}
		if again, ok := headlog.ParseName(n.String()); !ok || again != n {
			t.Fatalf("%+v is not what %s says", n, n)
		}
		r, err := headlog.NewReader(bytes.NewReader(b), n)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for r.Next() {
		}
		_ = r.Err()
	})
}

func FuzzParseName(f *testing.F) {
	f.Add(walName().String())
	f.Add("0000000001.checkpoint.00000002.000000000000.000000000005")
	f.Fuzz(func(t *testing.T, s string) {
		if n, ok := headlog.ParseName(s); ok && n.String() != s {
			t.Fatalf("%q parses to %q", s, n)
		}
	})
}

// A body that breaks off is no damage of the piece: another try may succeed.
func TestReader_TellsBrokenBodyFromShortPiece(t *testing.T) {
	b, _ := piece(t, 1, 20)
	for _, n := range []int{0, 30, 80, len(b) / 2, len(b) - 1} {
		_, err := read(bytes.NewReader(b[:n]))
		require.ErrorIs(t, err, headlog.ErrCorrupt)
		_, err = read(io.MultiReader(bytes.NewReader(b[:n]), iotest.ErrReader(io.ErrUnexpectedEOF)))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.NotErrorIs(t, err, headlog.ErrCorrupt)
	}
	got, err := read(iotest.DataErrReader(bytes.NewReader(b)))
	require.NoError(t, err)
	require.Len(t, got, 20)
}
