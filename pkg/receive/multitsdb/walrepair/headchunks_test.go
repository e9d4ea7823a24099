package walrepair

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/vfs"
	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

func openHeadChunks(t *testing.T, dir string) *chunks.ChunkDiskMapper {
	t.Helper()
	m, err := chunks.NewChunkDiskMapper(nil, filepath.Join(dir, headChunksDir), chunkenc.NewPool(), chunks.DefaultWriteBufferSize, 0)
	require.NoError(t, err)
	return m
}

// writeHeadChunks writes two files with the chunks of the series 1 to 10; those of
// the even ones are out of order.
func writeHeadChunks(t *testing.T, dir string) {
	t.Helper()
	const n = 10
	m := openHeadChunks(t, dir)
	require.NoError(t, m.IterateAllChunks(nil))
	for i := 1; i <= n; i++ {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		app.Append(0, int64(i), float64(i))
		m.WriteChunk(chunks.HeadSeriesRef(i), int64(i), int64(i), c, i%2 == 0, func(err error) { require.NoError(t, err) })
		if i == n/2 {
			m.CutNewFile()
		}
	}
	require.NoError(t, m.Close())
	require.NoError(t, os.MkdirAll(filepath.Join(dir, outOfOrderLog), 0o750))
}

// headSeries returns the series whose chunks the TSDB finds.
func headSeries(t *testing.T, dir string) (out []int, err error) {
	t.Helper()
	m := openHeadChunks(t, dir)
	err = m.IterateAllChunks(func(ref chunks.HeadSeriesRef, at chunks.ChunkDiskMapperRef, _, _ int64, _ uint16, _ chunkenc.Encoding, outOfOrder bool) error {
		_, err := m.Chunk(at)
		require.NoError(t, err)
		require.Equal(t, ref%2 == 0, outOfOrder)
		out = append(out, int(ref))
		return nil
	})
	require.NoError(t, m.Close())
	return out, err
}

func TestRepair_TakesOutOfOrderChunksOut(t *testing.T) {
	dir := t.TempDir()
	writeHeadChunks(t, dir)
	_, err := Repair(vfs.OS(), dir)
	require.NoError(t, err)
	got, err := headSeries(t, dir)
	require.NoError(t, err)
	require.Equal(t, []int{1, 3, 5, 7, 9}, got)

	// A second time changes nothing.
	before, err := os.Stat(filepath.Join(dir, headChunksDir, "000001"))
	require.NoError(t, err)
	_, err = Repair(vfs.OS(), dir)
	require.NoError(t, err)
	after, err := os.Stat(filepath.Join(dir, headChunksDir, "000001"))
	require.NoError(t, err)
	require.True(t, os.SameFile(before, after))
}

func TestRepair_KeepsOutOfOrderChunksWhoseLogIsMissingOrDamaged(t *testing.T) {
	all := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	dir := t.TempDir()
	writeHeadChunks(t, dir)
	require.NoError(t, os.Remove(filepath.Join(dir, outOfOrderLog)))
	_, err := Repair(vfs.OS(), dir)
	require.NoError(t, err)
	got, err := headSeries(t, dir)
	require.NoError(t, err)
	require.Equal(t, all, got, "no log")

	writeLog(t, filepath.Join(dir, outOfOrderLog), 100, false)
	damage(t, filepath.Join(dir, outOfOrderLog, "00000000"), 50)
	report, err := Repair(vfs.OS(), dir)
	require.NoError(t, err)
	require.Equal(t, 1, report.Records)
	got, err = headSeries(t, dir)
	require.NoError(t, err)
	require.Equal(t, all, got, "damaged log")
}

// A damaged chunk and all bytes behind it are the TSDB's to judge.
func TestRepair_KeepsChunkFileFromADamagedChunkOn(t *testing.T) {
	dir := t.TempDir()
	writeHeadChunks(t, dir)
	name := filepath.Join(dir, headChunksDir, "000001")
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	// One byte has the length of the data.
	chunk := 26 + int(b[chunks.HeadChunkFileHeaderSize+25]) + chunks.CRCSize
	third := chunks.HeadChunkFileHeaderSize + 2*chunk
	b[third+30] ^= 1
	require.NoError(t, os.WriteFile(name, b, 0o600))
	_, err = Repair(vfs.OS(), dir)
	require.NoError(t, err)
	got, err := os.ReadFile(name)
	require.NoError(t, err)
	want := bytes.Join([][]byte{b[:chunks.HeadChunkFileHeaderSize+chunk], b[third:]}, nil)
	require.True(t, bytes.Equal(want, got), "the second chunk is gone, the third and all behind it are kept")
	_, err = headSeries(t, dir)
	require.ErrorContains(t, err, "checksum")
}

func TestRepair_KeepsShortAndEmptyChunkFiles(t *testing.T) {
	for _, content := range []string{"", "\x01", "\x01\x30\xbc\x91\x01\x00\x00\x00", "\x01\x30\xbc\x91\x01\x00\x00\x00 some bytes, fewer than a chunk"} {
		dir := t.TempDir()
		require.NoError(t, os.MkdirAll(filepath.Join(dir, outOfOrderLog), 0o750))
		require.NoError(t, os.MkdirAll(filepath.Join(dir, headChunksDir), 0o750))
		name := filepath.Join(dir, headChunksDir, "000001")
		require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
		_, err := Repair(vfs.OS(), dir)
		require.NoError(t, err)
		got, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, content, string(got))
	}
}

func TestRepair_KeepsChunksAfterEachFailure(t *testing.T) {
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		dir := t.TempDir()
		writeHeadChunks(t, dir)
		_, err := Repair(fsys, dir)
		if fsys.Failed() != "" {
			require.ErrorIs(t, err, faultfs.ErrInjected)
		}
		got, err := headSeries(t, dir)
		require.NoError(t, err)
		require.Subset(t, got, []int{1, 3, 5, 7, 9})
		_, err = Repair(vfs.OS(), dir)
		require.NoError(t, err)
		got, err = headSeries(t, dir)
		require.NoError(t, err)
		require.Equal(t, []int{1, 3, 5, 7, 9}, got)
	})
}
