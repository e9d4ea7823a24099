package multitsdb

import (
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb/walrepair"
)

// A log of many commits is damaged at random places; the tenant opens, and at most
// the damaged record is lost.
func TestOpen_LosesDamagedRecordOnly(t *testing.T) {
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

func TestOpen_MovesDamagedBlock(t *testing.T) {
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
	require.DirExists(t, filepath.Join(dir, "a", walrepair.DamagedDir, id))
}
