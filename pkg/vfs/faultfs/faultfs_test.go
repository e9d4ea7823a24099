package faultfs_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/vfs"
	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

func TestFS_FailsTheChosenChange(t *testing.T) {
	for _, test := range []struct {
		mode  faultfs.Mode
		fails []bool // each of three writes
	}{
		{faultfs.Once, []bool{false, true, false}},
		{faultfs.Onwards, []bool{false, true, true}},
	} {
		t.Run(test.mode.String(), func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "f")
			fsys := faultfs.New(vfs.OS(), 3, test.mode) // after create and one write
			f, err := fsys.Create(name)
			require.NoError(t, err)
			for i, fails := range test.fails {
				n, err := f.Write([]byte("abcd"))
				if fails {
					require.ErrorIs(t, err, faultfs.ErrInjected, "write %d", i)
					require.Equal(t, 2, n, "half of the bytes are written")
				} else {
					require.NoError(t, err, "write %d", i)
				}
			}
			require.NoError(t, f.Close())
			require.Equal(t, "write to (change 3)", fsys.Failed())
			require.Equal(t, 4, fsys.Changes())
			_, err = os.Stat(name)
			require.NoError(t, err)
		})
	}
}
