package pagecache

import (
	"bytes"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/vfs"
	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

// Six pages go into four slots, so that slots are also reused.
func TestDisk_HoldsWholePagesOnlyAfterEachFailure(t *testing.T) {
	o := Object{Block: ulid.ULID{1}, File: 1, Name: "o", Size: 6 * pageSize}
	page := func(n uint32) []byte { return bytes.Repeat([]byte{byte(n + 1)}, pageSize) }
	pages := []uint32{0, 1, 2, 3, 4, 5}
	check := func(t *testing.T, d *disk) {
		t.Helper()
		d.get(o, pages, func(n uint32, b []byte) { require.Equal(t, page(n), b) })
	}
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		const size = 4 * (pageSize + diskEntrySize)
		dir := t.TempDir()
		d, err := openDisk(fsys, dir, size)
		if err != nil {
			require.ErrorIs(t, err, faultfs.ErrInjected)
		} else {
			for _, n := range pages {
				d.put(key{o.Block, o.File, n}, page(n))
			}
			check(t, d)
			require.NoError(t, d.close())
		}
		d, err = openDisk(vfs.OS(), dir, size)
		require.NoError(t, err, "the lock is released and the file can be used")
		check(t, d)
		d.put(key{o.Block, o.File, 5}, page(5))
		require.NotContains(t, d.get(o, pages, func(n uint32, b []byte) { require.Equal(t, page(n), b) }), uint32(5))
		require.NoError(t, d.close())
	})
}
