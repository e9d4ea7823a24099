package block

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

func TestWriteMetaDir_LeavesOldOrNewMetaAfterEachFailure(t *testing.T) {
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		dir := t.TempDir()
		m := &Meta{}
		m.Version, m.MaxTime = 1, 1
		require.NoError(t, WriteMetaDir(dir, m))
		m.MaxTime = 2
		err := writeMeta(fsys, dir, m)
		got, readErr := ReadMetaDir(dir)
		require.NoError(t, readErr)
		if err == nil {
			require.EqualValues(t, 2, got.MaxTime)
		} else {
			require.ErrorIs(t, err, faultfs.ErrInjected)
			require.Contains(t, []int64{1, 2}, got.MaxTime)
		}
		m.MaxTime = 3
		require.NoError(t, WriteMetaDir(dir, m), "the next write succeeds")
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Len(t, entries, 1, "temporary files are removed")
	})
}
