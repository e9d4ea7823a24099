package multitsdb

import (
	"bytes"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
)

// A log of many commits is damaged at random places; the tenant opens by
// itself, and at most the damaged record is lost.
func TestDamagedLog(t *testing.T) {
	const commits, perCommit = 60, 30
	origin := t.TempDir()
	d := openDB(t, origin, nil)
	now := time.Now().UnixMilli()
	firstRecords := int64(0)
	for c := range commits {
		var series []prompb.TimeSeries
		for i := range perCommit {
			series = append(series, float(fmt.Sprint("series_with_a_long_name_", i), now+int64(c), float64(c*1000+i)+0.1))
		}
		require.NoError(t, write(t, d, "a", series...))
		if c == 0 {
			firstRecords = fileSize(t, filepath.Join(origin, "a", "wal", "00000000"))
		}
	}
	all := dump(t, d)
	require.Len(t, all, commits*perCommit)
	rnd := rand.New(rand.NewSource(3))
	for round := range 25 {
		dir := t.TempDir()
		require.NoError(t, os.CopyFS(dir, os.DirFS(origin)))
		path := filepath.Join(dir, "a", "wal", "00000000")
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		at := int(firstRecords) + rnd.Intn(len(b)-int(firstRecords))
		torn := round%3 == 0
		if torn {
			b = b[:at]
		} else {
			b[at] ^= 1 << rnd.Intn(8)
		}
		require.NoError(t, os.WriteFile(path, b, 0o600))
		after := openDB(t, dir, func(c *Config) { c.NoLockfile = true })
		got := dump(t, after)
		if !torn {
			require.GreaterOrEqual(t, len(got), len(all)-perCommit, "byte %d", at)
		}
		for _, line := range got {
			require.Contains(t, all, line)
		}
		require.NoError(t, write(t, after, "a", float("new", now+100_000, 1)))
		require.Len(t, dump(t, after), len(got)+1)
	}
}

func fileSize(t *testing.T, path string) int64 {
	st, err := os.Stat(path)
	require.NoError(t, err)
	return st.Size()
}

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
			continue // the compression bits or padding that nobody looks at
		}
		require.Greater(t, len(got), len(records)-70)
		again, damaged := scanSegment(encodeSegment(got))
		require.Zero(t, damaged)
		require.Len(t, again, len(got))
	}
}

func TestBadBlockIsSetAside(t *testing.T) {
	dir := t.TempDir()
	d := openDB(t, dir, nil)
	now := time.Now().UnixMilli()
	require.NoError(t, write(t, d, "a", float("x", now, 1)))
	require.NoError(t, d.Flush(t.Context(), ""))
	require.NoError(t, write(t, d, "a", float("y", now+1, 1)))
	id := d.opened("a").db.Blocks()[0].Meta().ULID.String()
	require.NoError(t, d.Close(t.Context()))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a", id, "index"), []byte("rubbish"), 0o600))
	after := openDB(t, dir, nil)
	require.Contains(t, fmt.Sprint(dump(t, after)), `__name__="y"`)
	require.DirExists(t, filepath.Join(dir, "a", damagedDir, id))
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
