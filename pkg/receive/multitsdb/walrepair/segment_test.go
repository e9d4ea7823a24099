package walrepair

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// A damaged length field loses no more than the rest of its page.
func TestScanSegmentResynchronises(t *testing.T) {
	rnd := rand.New(rand.NewSource(4))
	var records []walRecord
	for range 300 {
		body := make([]byte, rnd.Intn(3000))
		rnd.Read(body)
		records = append(records, walRecord{compression: 8, parts: [][]byte{body}})
	}
	clean := encodeSegment(records)
	got, damaged := scanSegment(clean)
	require.Zero(t, damaged)
	require.Len(t, got, len(records))
	for i := range got {
		require.True(t, bytes.Equal(bytes.Join(got[i].parts, nil), records[i].parts[0]))
	}
	for range 300 {
		b := append([]byte(nil), clean...)
		b[rnd.Intn(len(b))] ^= byte(1 + rnd.Intn(255))
		got, damaged := scanSegment(b)
		if damaged == 0 {
			continue // compression bits or padding, which have no checksum
		}
		require.Greater(t, len(got), len(records)-70)
		again, damaged := scanSegment(encodeSegment(got))
		require.Zero(t, damaged)
		require.Len(t, again, len(got))
	}
}

func TestRepair_TakesMarkersOut(t *testing.T) {
	samples := func(n int) (out []record.RefSample) {
		for i := range n {
			out = append(out, record.RefSample{Ref: 1, T: int64(i), V: 1})
		}
		return out
	}
	for _, typ := range compression.Types() {
		dir := t.TempDir()
		w, err := wlog.NewSize(slog.New(slog.DiscardHandler), nil, filepath.Join(dir, outOfOrderLog), walPage, typ)
		require.NoError(t, err)
		var enc record.Encoder
		want := 0
		for i := range 100 {
			require.NoError(t, w.Log(enc.Samples(samples(1+50*i), nil)))
			want += 1 + 50*i
			require.NoError(t, w.Log(enc.MmapMarkers(slices.Repeat([]record.RefMmapMarker{{Ref: 1, MmapRef: 8}}, 1+10*i), nil)))
		}
		require.NoError(t, w.Close())
		report, err := Repair(vfs.OS(), dir)
		require.NoError(t, err)
		require.Equal(t, Report{}, report)
		require.NoDirExists(t, filepath.Join(dir, DamagedDir))
		r, err := wlog.NewSegmentsReader(filepath.Join(dir, outOfOrderLog))
		require.NoError(t, err)
		var dec record.Decoder
		got := 0
		for wr := wlog.NewReader(r); wr.Next(); {
			require.Equal(t, record.Samples, dec.Type(wr.Record()), typ)
			s, err := dec.Samples(wr.Record(), nil)
			require.NoError(t, err)
			got += len(s)
		}
		require.NoError(t, r.Close())
		require.Equal(t, want, got, typ)
	}
	kept, damaged := withoutMarkers([]walRecord{{compression: walSnappy, parts: [][]byte{{0xff}}}, {}, {parts: [][]byte{{byte(record.Samples)}}}})
	require.Len(t, kept, 1)
	require.Equal(t, 2, damaged)
}

func TestTransient(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENOMEM, syscall.EACCES, syscall.EIO} {
		require.True(t, transient(fmt.Errorf("open: %w", &fs.PathError{Op: "mmap", Path: "index", Err: errno})), errno)
	}
	require.False(t, transient(&fs.PathError{Op: "open", Path: "index", Err: syscall.ENOENT}))
	require.False(t, transient(errors.New("invalid magic number")))
	require.False(t, transient(nil))
}

func FuzzScanSegment(f *testing.F) {
	f.Add(encodeSegment([]walRecord{{parts: [][]byte{[]byte("abc")}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		records, _ := scanSegment(b)
		again, damaged := scanSegment(encodeSegment(records))
		if damaged != 0 || len(again) != len(records) {
			t.Fatalf("%d records, %d after writing, %d damaged", len(records), len(again), damaged)
		}
	})
}
