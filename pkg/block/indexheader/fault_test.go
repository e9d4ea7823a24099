package indexheader

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/vfs"
	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

func TestWriteFile_LeavesOldOrNewHeaderAfterEachFailure(t *testing.T) {
	older := fetchHeader(t, labels.FromStrings("a", "1"))
	newer := fetchHeader(t, labels.FromStrings("a", "1", "b", "2"), labels.FromStrings("a", "2"))
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		file := filepath.Join(t.TempDir(), "header")
		require.NoError(t, older.WriteFile(vfs.OS(), file))
		want := older
		if err := newer.WriteFile(fsys, file); err == nil {
			want = newer
		} else {
			require.ErrorIs(t, err, faultfs.ErrInjected)
		}
		h, err := OpenFile(file)
		require.NoError(t, err)
		defer func() { require.NoError(t, h.Close()) }()
		require.Equal(t, want.b, h.b)
		// The store does this for files of processes that died.
		require.NoError(t, vfs.RemoveTemp(vfs.OS(), filepath.Dir(file), ""))
		entries, err := os.ReadDir(filepath.Dir(file))
		require.NoError(t, err)
		require.Len(t, entries, 1)
	})
}

// fetchHeader makes the header of an index with the series.
func fetchHeader(t *testing.T, series ...labels.Labels) *Header {
	t.Helper()
	b := writeIndex(t, series)
	h, err := Fetch(t.Context(), &bytesReader{b: b}, "index", int64(len(b)), nil)
	require.NoError(t, err)
	return h
}
