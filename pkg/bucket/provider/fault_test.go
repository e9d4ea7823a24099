package provider

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/vfs"
	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

func TestFilesystemUpload_LeavesOldOrNewObjectAfterEachFailure(t *testing.T) {
	upload := func(b *filesystem, name, content string) error {
		return b.Upload(t.Context(), name, strings.NewReader(content), int64(len(content)))
	}
	content := func(t *testing.T, b *filesystem, name string) string {
		t.Helper()
		data, err := bucket.ReadAll(t.Context(), b, name, 100)
		if err != nil {
			require.ErrorIs(t, err, bucket.ErrNotFound)
		}
		return string(data)
	}
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		root := t.TempDir()
		after := openFilesystem(vfs.OS(), root)
		require.NoError(t, upload(after, "a/old", "old"))
		faulty := openFilesystem(fsys, root)
		for _, name := range []string{"a/old", "b/new"} {
			if err := upload(faulty, name, "new content"); err == nil {
				require.Equal(t, "new content", content(t, after, name))
			} else {
				require.ErrorIs(t, err, faultfs.ErrInjected)
				require.Contains(t, []string{"old", "", "new content"}, content(t, after, name))
			}
		}
		require.NotEmpty(t, content(t, after, "a/old"), "an object is never removed by an upload")
		names := []string{}
		require.NoError(t, after.List(t.Context(), "", func(o bucket.Object) error {
			names = append(names, o.Name)
			return nil
		}))
		require.Subset(t, []string{"a/old", "b/new"}, names)

		next := openFilesystem(vfs.OS(), root) // as in the next process
		require.NoError(t, upload(next, "b/new", "last"))
		require.Equal(t, "last", content(t, next, "b/new"))
		require.NoDirExists(t, next.uploads.dir)
		entries, err := os.ReadDir(root)
		require.NoError(t, err)
		require.Len(t, entries, 2)
	})
}
