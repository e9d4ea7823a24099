package pagecache

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// TestDisk_ChecksPagesOnce damages pages that were compared with their checksums: Distrust
// finds them. Pages that were replaced while they are read are never confused.
func TestDisk_ChecksPagesOnce(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, 8*pageSize, Config{DiskBytes: 64 * (pageSize + diskEntrySize), DiskDir: dir})
	all := []Range{{Off: 0, End: r.o.Size}}
	load := func() (Counts, []byte) {
		p := r.Open(r.o, &Account{})
		counts, err := p.Load(t.Context(), all)
		require.NoError(t, err)
		b, err := p.Bytes(all[0])
		require.NoError(t, err)
		return counts, b
	}
	load() // from the bucket
	load() // compares the checksums
	file, err := os.OpenFile(filepath.Join(dir, diskFile), os.O_RDWR, 0)
	require.NoError(t, err)
	n, ok := r.disk.find(key{r.o.Block, r.o.File, 3})
	require.True(t, ok)
	_, err = file.WriteAt([]byte("damaged"), r.disk.dataOffset(n))
	require.NoError(t, err)
	require.NoError(t, file.Close())
	counts, b := load()
	require.Zero(t, counts.Requests)
	require.False(t, bytes.Equal(r.data, b), "not compared again")
	r.Distrust(r.o.Block)
	counts, b = load()
	require.Equal(t, int64(1), counts.Requests)
	require.True(t, bytes.Equal(r.data, b))
}

// Pages of two objects push each other out of few slots while they are read.
func TestDisk_ReplacedPagesAreNotConfused(t *testing.T) {
	d, err := openDisk(vfs.OS(), t.TempDir(), 8*(pageSize+diskEntrySize))
	require.NoError(t, err)
	page := func(file, n uint32) []byte { return bytes.Repeat([]byte{byte(file<<4 | n)}, pageSize) }
	var wg sync.WaitGroup
	for file := range uint32(4) {
		wg.Go(func() {
			o := Object{Block: ulid.ULID{1}, File: file, Name: "o", Size: 6 * pageSize}
			for round := range 3000 {
				n := uint32(round % 5)
				d.put(o, n, append(page(file, n), page(file, n+1)...))
				two := loadedRun{run: run{first: n, end: n + 2}, b: make([]byte, 2*pageSize)}
				missing := d.get(o, &two, two.run, nil)
				for k := n; k < n+2; k++ {
					if !slices.Contains(missing, k) && !bytes.Equal(two.page(k), page(file, k)) {
						t.Errorf("page %d of file %d is another", k, file)
					}
				}
			}
		})
	}
	wg.Wait()
	require.Zero(t, d.failed.Load())
	require.NoError(t, d.close())
}

// Two puts never write into one slot: the page of one would have the data of the other,
// after its checksum was compared.
func TestDisk_SlotsThatAreWrittenAreNotTaken(t *testing.T) {
	d, err := openDisk(vfs.OS(), t.TempDir(), 2*(pageSize+diskEntrySize)+diskHeaderSize)
	require.NoError(t, err)
	defer func() { require.NoError(t, d.close()) }()
	require.EqualValues(t, 2, d.slots)
	o := Object{Block: ulid.ULID{1}}
	page := bytes.Repeat([]byte("a"), pageSize)
	first, slots, _ := d.reserve(o, 0, page)
	_, others, _ := d.reserve(o, 1, page)
	require.NotEqual(t, slots, others)
	entries, none, skipped := d.reserve(o, 2, slices.Concat(page, page))
	require.Empty(t, entries)
	require.Empty(t, none)
	require.Equal(t, 2, skipped)
	d.write(first, slots[0], page, "")
	_, again, _ := d.reserve(o, 2, page)
	require.Equal(t, slots, again)
}
