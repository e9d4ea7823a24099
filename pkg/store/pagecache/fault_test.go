package pagecache

import (
	"bytes"
	"slices"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/vfs"
	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

// read compares the pages that are kept, and returns the others.
func read(t *testing.T, d *disk, o Object, page func(n uint32) []byte) (missing []uint32) {
	t.Helper()
	all := loadedRun{run: run{first: 0, end: uint32(o.Size / pageSize)}, b: make([]byte, o.Size)}
	missing = d.get(o, &all, all.run, nil)
	for n := all.first; n < all.end; n++ {
		if !slices.Contains(missing, n) {
			require.Equal(t, page(n), all.page(n))
		}
	}
	return missing
}

// Six pages go into four slots, so that slots are also reused.
func TestDisk_HoldsWholePagesOnlyAfterEachFailure(t *testing.T) {
	o := Object{Block: ulid.ULID{1}, File: 1, Name: "o", Size: 6 * pageSize}
	page := func(n uint32) []byte { return bytes.Repeat([]byte{byte(n + 1)}, pageSize) }
	check := func(t *testing.T, d *disk) {
		t.Helper()
		read(t, d, o, page)
	}
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		const size = 4 * (pageSize + diskEntrySize)
		dir := t.TempDir()
		d, err := openDisk(fsys, dir, size)
		if err != nil {
			require.ErrorIs(t, err, faultfs.ErrInjected)
		} else {
			d.put(o, 0, slices.Concat(page(0), page(1)))
			d.put(o, 2, page(2))
			d.put(o, 3, slices.Concat(page(3), page(4), page(5)))
			check(t, d)
			require.NoError(t, d.close())
		}
		d, err = openDisk(vfs.OS(), dir, size)
		require.NoError(t, err, "the lock is released and the file can be used")
		check(t, d)
		d.put(o, 5, page(5))
		require.NotContains(t, read(t, d, o, page), uint32(5))
		require.NoError(t, d.close())
	})
}
