package walrepair

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/vfs"
	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

// writeLog writes records of one sample each, with the times from 0 to n-1, and
// markers among them.
func writeLog(t *testing.T, dir string, n int, markers bool) {
	w, err := wlog.NewSize(slog.New(slog.DiscardHandler), nil, dir, walPage, compression.None)
	require.NoError(t, err)
	var enc record.Encoder
	for i := range n {
		require.NoError(t, w.Log(enc.Samples([]record.RefSample{{Ref: 1, T: int64(i), V: 1}}, nil)))
		if markers && i%10 == 0 {
			require.NoError(t, w.Log(enc.MmapMarkers([]record.RefMmapMarker{{Ref: 1, MmapRef: 8}}, nil)))
		}
	}
	require.NoError(t, w.Close())
}

// times returns the times of the samples in a log, which has nothing else.
func times(t *testing.T, dir string) (out []int64) {
	r, err := wlog.NewSegmentsReader(dir)
	require.NoError(t, err)
	var dec record.Decoder
	wr := wlog.NewReader(r)
	for wr.Next() {
		require.Equal(t, record.Samples, dec.Type(wr.Record()))
		s, err := dec.Samples(wr.Record(), nil)
		require.NoError(t, err)
		out = append(out, s[0].T)
	}
	require.NoError(t, wr.Err())
	require.NoError(t, r.Close())
	return out
}

// damage changes a byte in the n-th record of 27 bytes of a segment and returns
// the content of the file.
func damage(t *testing.T, name string, n int) []byte {
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	b[n*(walHeader+27)+walHeader+3] ^= 1
	require.NoError(t, os.WriteFile(name, b, 0o600))
	return b
}

// After the failure of each change, once or as when the process is killed there, no
// good record is lost, the original is kept, and the next repair does the rest.
func TestRepair_LosesNothingAfterEachFailure(t *testing.T) {
	const samples = 50
	bad := ulid.ULID{1}
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		dir := t.TempDir()
		wal, wbl := filepath.Join(dir, "wal"), filepath.Join(dir, outOfOrderLog)
		writeLog(t, wal, samples, false)
		writeLog(t, wbl, samples, true)
		original := damage(t, filepath.Join(wal, "00000000"), 20)
		require.NoError(t, os.MkdirAll(filepath.Join(dir, bad.String()), 0o750))
		require.NoError(t, os.WriteFile(filepath.Join(dir, bad.String(), "meta.json"), []byte("{"), 0o600))

		first, err := Repair(fsys, dir)
		if fsys.Failed() != "" {
			require.ErrorIs(t, err, faultfs.ErrInjected)
		}
		second, err := Repair(vfs.OS(), dir)
		require.NoError(t, err)
		third, err := Repair(vfs.OS(), dir)
		require.NoError(t, err)
		require.Equal(t, Report{}, third, "nothing is left to do")

		want := []int64{}
		for i := range int64(samples) {
			want = append(want, i)
		}
		require.Equal(t, want, times(t, wbl))
		require.Equal(t, slices.Delete(slices.Clone(want), 20, 21), times(t, wal))
		kept, err := os.ReadFile(filepath.Join(dir, DamagedDir, "wal-00000000"))
		require.NoError(t, err)
		require.Equal(t, original, kept)
		require.DirExists(t, filepath.Join(dir, DamagedDir, bad.String()))
		require.NoDirExists(t, filepath.Join(dir, bad.String()))
		require.GreaterOrEqual(t, first.Records+second.Records, 1-strings.Count(fsys.Failed(), "sync directory"))
		for _, d := range []string{wal, wbl} {
			entries, err := os.ReadDir(d)
			require.NoError(t, err)
			require.Len(t, entries, 1, fmt.Sprint("temporary files of the first repair are gone: ", entries))
		}
	})
}

func TestRepair_KeepsOriginalsOfEarlierDamages(t *testing.T) {
	dir := t.TempDir()
	segment := filepath.Join(dir, "wal", "00000000")
	writeLog(t, filepath.Dir(segment), 50, false)
	var originals [][]byte
	for n := range 3 {
		originals = append(originals, damage(t, segment, 10*n))
		report, err := Repair(vfs.OS(), dir)
		require.NoError(t, err)
		require.Equal(t, 1, report.Records)
	}
	for i, name := range []string{"wal-00000000", "wal-00000000.1", "wal-00000000.2"} {
		kept, err := os.ReadFile(filepath.Join(dir, DamagedDir, name))
		require.NoError(t, err)
		require.Equal(t, originals[i], kept)
	}
	require.Len(t, times(t, filepath.Dir(segment)), 47)
}

func TestRepair_MovesBlocksOfOneName(t *testing.T) {
	dir, id := t.TempDir(), ulid.ULID{2}
	for range 2 {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, id.String()), 0o750))
		report, err := Repair(vfs.OS(), dir)
		require.NoError(t, err)
		require.Len(t, report.Blocks, 1)
		require.Equal(t, id, report.Blocks[0].ID)
	}
	require.DirExists(t, filepath.Join(dir, DamagedDir, id.String()))
	require.DirExists(t, filepath.Join(dir, DamagedDir, id.String()+".1"))
}
