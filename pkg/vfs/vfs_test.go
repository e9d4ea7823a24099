package vfs_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/vfs"
	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

func TestWriteFile_LeavesOldOrNewContentAfterEachFailure(t *testing.T) {
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		name := filepath.Join(t.TempDir(), "state")
		require.NoError(t, os.WriteFile(name, []byte("old"), 0o600))
		err := vfs.WriteFile(fsys, name, 0o640, func(w io.Writer) error {
			for _, part := range []string{"new ", "content"} {
				if _, err := io.WriteString(w, part); err != nil {
					return err
				}
			}
			return nil
		})
		got, readErr := os.ReadFile(name)
		require.NoError(t, readErr)
		switch {
		case err == nil:
			require.Equal(t, "new content", string(got))
		case strings.HasPrefix(fsys.Failed(), "sync directory"):
			require.ErrorIs(t, err, faultfs.ErrInjected)
			require.Equal(t, "new content", string(got))
		default:
			require.ErrorIs(t, err, faultfs.ErrInjected)
			require.ErrorContains(t, err, name)
			require.Equal(t, "old", string(got))
		}
		require.NoError(t, vfs.RemoveTemp(vfs.OS(), filepath.Dir(name), "state"))
		entries, err := os.ReadDir(filepath.Dir(name))
		require.NoError(t, err)
		require.Len(t, entries, 1)
	})
}

func TestWriteFile_RemovesTemporaryFileAfterOneFailure(t *testing.T) {
	for n := 1; ; n++ {
		dir := t.TempDir()
		fsys := faultfs.New(vfs.OS(), n, faultfs.Once)
		err := vfs.WriteBytes(fsys, filepath.Join(dir, "state"), 0o640, []byte("x"))
		if fsys.Failed() == "" {
			require.NoError(t, err)
			require.Greater(t, n, 4, "create, write, sync, rename and sync of the directory can fail")
			return
		}
		require.ErrorIs(t, err, faultfs.ErrInjected)
		if strings.HasPrefix(fsys.Failed(), "sync directory") {
			require.Equal(t, []string{"state"}, names(t, dir))
		} else {
			require.Empty(t, names(t, dir), fsys.Failed())
		}
	}
}

func TestWriteFile_ConcurrentWritersLeaveOneContent(t *testing.T) {
	name := filepath.Join(t.TempDir(), "state")
	contents := [][]byte{bytes.Repeat([]byte("a"), 1<<16), bytes.Repeat([]byte("b"), 1<<16)}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := vfs.WriteBytes(vfs.OS(), name, 0o640, contents[i%2]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got, err := os.ReadFile(name)
	require.NoError(t, err)
	require.True(t, bytes.Equal(got, contents[0]) || bytes.Equal(got, contents[1]))
	entries, err := os.ReadDir(filepath.Dir(name))
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestWithoutSync_SyncsNeitherFileNorDirectory(t *testing.T) {
	for n := 1; ; n++ {
		fsys := faultfs.New(vfs.OS(), n, faultfs.Once)
		name := filepath.Join(t.TempDir(), "state")
		err := vfs.WriteBytes(vfs.WithoutSync(fsys), name, 0o640, []byte("x"))
		if fsys.Failed() == "" {
			require.NoError(t, err)
			return
		}
		require.NotContains(t, fsys.Failed(), "sync")
		require.ErrorIs(t, err, faultfs.ErrInjected)
		require.Empty(t, names(t, filepath.Dir(name)))
	}
}

func TestRemoveTemp_KeepsFilesOfOthers(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.json.1z.tmp", "a.json", "b.json.2.tmp", "a.tmp", "notes.tmp", ".7.tmp", "a.json.x_y.tmp"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	require.NoError(t, vfs.RemoveTemp(vfs.OS(), dir, "a.json"))
	require.Equal(t, []string{".7.tmp", "a.json", "a.json.x_y.tmp", "a.tmp", "b.json.2.tmp", "notes.tmp"}, names(t, dir))
	require.NoError(t, vfs.RemoveTemp(vfs.OS(), dir, ""))
	require.Equal(t, []string{".7.tmp", "a.json", "a.json.x_y.tmp", "a.tmp", "notes.tmp"}, names(t, dir))
}

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}
