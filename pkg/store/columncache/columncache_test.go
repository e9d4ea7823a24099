package columncache

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/columnchunk"
	"github.com/hindsight-io/hindsight/pkg/vfs"
	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

func id(n byte) ulid.ULID { return ulid.ULID{15: n} }

// clock is a time that a test moves.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

func open(t *testing.T, size int64) (*Cache, *clock, string) {
	t.Helper()
	dir := t.TempDir()
	at := &clock{time.Unix(1000, 0)}
	c, err := Open(vfs.OS(), Config{Dir: dir, Bytes: size, MinAge: time.Minute, Now: at.now}, prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c, at, filepath.Join(dir, fileName)
}

// content are the chunks of a page, which tell the page.
func content(p Page, size int) []Chunk {
	return []Chunk{
		{At: 0, Encoding: columnchunk.Encoding, Bytes: bytes.Repeat(fmt.Appendf(nil, "%s/%d/%d ", p.Block, p.File, p.Number), size)},
		{At: 700, Encoding: 1, Bytes: []byte("raw")},
	}
}

func put(c *Cache, size int, pages ...Page) {
	var w Batch
	for _, p := range pages {
		w.Add(p, content(p, size))
	}
	c.Put(&w)
}

// load returns the entries of pages of a block.
func load(t *testing.T, c *Cache, block ulid.ULID, pages ...uint32) (l Loaded, bytes int64) {
	t.Helper()
	require.NoError(t, c.Load(block, 1, pages, &l, func(n int64) ([]byte, error) {
		bytes += n
		return make([]byte, n), nil
	}))
	return l, bytes
}

func has(t *testing.T, c *Cache, p Page, size int) bool {
	t.Helper()
	l, _ := load(t, c, p.Block, p.Number)
	all := l.Entries[0].All()
	if len(all) == 0 {
		return false
	}
	require.Equal(t, content(p, size), all)
	return true
}

func TestCache_KeepsEntries(t *testing.T) {
	c, _, _ := open(t, 16<<20)
	var pages []Page
	for n := range uint32(40) {
		pages = append(pages, Page{id(1), 1, 3 * n})
	}
	put(c, 5, pages...)
	l, _ := load(t, c, id(1), 0, 1, 3, 117, 118)
	for i, want := range []*Page{&pages[0], nil, &pages[1], &pages[39], nil} {
		var all []Chunk
		if want != nil {
			all = content(*want, 5)
		}
		require.Equal(t, all, l.Entries[i].All())
	}
	found, ok := l.Entries[0].Find(0)
	require.True(t, ok)
	require.Equal(t, columnchunk.Encoding, found.Encoding)
	_, ok = l.Entries[0].Find(1)
	require.False(t, ok)
	found, ok = l.Entries[0].Find(700)
	require.True(t, ok)
	require.Equal(t, "raw", string(found.Bytes))
	_, ok = l.Entries[0].Find(701)
	require.False(t, ok)

	require.True(t, c.Has(pages[1]))
	require.False(t, c.Has(Page{id(1), 1, 4}))
	require.False(t, has(t, c, Page{id(2), 1, 0}, 5), "another block")

	var w Batch
	w.Decline(Page{id(1), 1, 4})
	c.Put(&w)
	l, bytes := load(t, c, id(1), 4)
	require.Zero(t, bytes)
	require.True(t, l.Declined[0])
	require.False(t, c.Has(Page{id(1), 1, 4}))

	noMemory := errors.New("no memory")
	require.ErrorIs(t, c.Load(id(1), 1, []uint32{0}, &l, func(int64) ([]byte, error) { return nil, noMemory }), noMemory)
}

// An entry in place of another one leaves nothing of the first one in the file, and so does
// a block that is forgotten.
func TestCache_OverwritesWhatItForgets(t *testing.T) {
	c, _, file := open(t, 16<<20)
	p := Page{id(1), 1, 7}
	inFile := func() int {
		b, err := os.ReadFile(file)
		require.NoError(t, err)
		return bytes.Count(b, content(p, 1)[0].Bytes)
	}
	put(c, 3, p, Page{id(2), 1, 7})
	require.Equal(t, 3, inFile())
	put(c, 2, p)
	require.Equal(t, 2, inFile())
	require.True(t, has(t, c, p, 2))
	c.Forget(id(1))
	require.Zero(t, inFile())
	require.False(t, has(t, c, p, 2))
	require.True(t, has(t, c, Page{id(2), 1, 7}, 3))
}

// The oldest region is written again once it is old enough, and not before.
func TestCache_RegionsAreKeptForSomeTime(t *testing.T) {
	c, at, file := open(t, regions*minRegion)
	fill := func(from uint32) (n int) {
		for c.Accepts() {
			put(c, 500, Page{id(1), 1, from + uint32(n)})
			n++
		}
		return n
	}
	first := fill(0)
	require.Greater(t, first, 150)
	require.True(t, has(t, c, Page{id(1), 1, 0}, 500))

	at.t = at.t.Add(time.Minute)
	require.True(t, c.Accepts())
	n := fill(200_000)
	require.InDelta(t, first, n, 40)
	require.False(t, has(t, c, Page{id(1), 1, 0}, 500))
	require.True(t, has(t, c, Page{id(1), 1, 200_000 + uint32(n) - 1}, 500))
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.LessOrEqual(t, info.Size(), int64(regions*minRegion))
	require.LessOrEqual(t, c.bytes(), int64(regions*minRegion))
}

func TestCache_NoticesDamage(t *testing.T) {
	c, _, file := open(t, 16<<20)
	put(c, 3, Page{id(1), 1, 1}, Page{id(1), 1, 2})
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte{1}, 100) // in the first entry
	require.NoError(t, err)
	require.False(t, has(t, c, Page{id(1), 1, 1}, 3))
	require.False(t, c.Has(Page{id(1), 1, 1}))
	require.True(t, has(t, c, Page{id(1), 1, 2}, 3))
	require.NoError(t, f.Truncate(0))
	require.False(t, has(t, c, Page{id(1), 1, 2}, 3))
	require.EqualValues(t, 2, testutil.ToFloat64(c.m.broken))
}

func TestCache_BoundsDeclinedPages(t *testing.T) {
	c, _, _ := open(t, 16<<20)
	put(c, 1, Page{id(1), 1, 3})
	var w Batch
	for n := range uint32(maxDeclined) {
		w.Decline(Page{id(2), 1, n * tablePages})
	}
	c.Put(&w)
	require.Len(t, c.tables, maxDeclined+1)
	w.Reset()
	w.Decline(Page{id(2), 1, 1})
	c.Put(&w)
	require.Len(t, c.tables, 1)
	require.True(t, has(t, c, Page{id(1), 1, 3}, 1))
}

// A file that cannot be read or written keeps nothing, and costs no answer.
func TestCache_FailingDisk(t *testing.T) {
	fsys := faultfs.New(vfs.OS(), 6, faultfs.Onwards).CountReads()
	c, err := Open(fsys, Config{Dir: t.TempDir(), Bytes: 16 << 20}, nil) // two changes
	require.NoError(t, err)
	put(c, 1, Page{id(1), 1, 1}, Page{id(1), 1, 2})   // the third
	require.True(t, has(t, c, Page{id(1), 1, 1}, 1))  // the fourth
	put(c, 1, Page{id(1), 1, 3})                      // the fifth
	require.False(t, has(t, c, Page{id(1), 1, 2}, 1)) // the first that fails
	require.False(t, c.Has(Page{id(1), 1, 2}))        // it was dropped
	put(c, 1, Page{id(1), 1, 4})                      // fails
	require.False(t, c.Has(Page{id(1), 1, 4}))
	require.EqualValues(t, 1, testutil.ToFloat64(c.m.failed))
	c.Forget(id(1)) // writes in two places
	require.EqualValues(t, 3, testutil.ToFloat64(c.m.failed))
	require.NoError(t, c.Close())
	put(c, 1, Page{id(1), 1, 1})
	require.False(t, has(t, c, Page{id(1), 1, 1}, 1))
	c.Forget(id(1))
	require.False(t, c.Accepts())
	require.NoError(t, c.Close())
}

func TestOpen_Refuses(t *testing.T) {
	for _, size := range []int64{1, regions*minRegion - 1, 1 << 40} {
		_, err := Open(vfs.OS(), Config{Dir: t.TempDir(), Bytes: size}, nil)
		require.ErrorContains(t, err, "it needs from")
	}
	_, err := Open(vfs.OS(), Config{Dir: "/dev/null/x", Bytes: 16 << 20}, nil)
	require.ErrorContains(t, err, "directory of the column cache")
}

// Many readers and writers of few regions, which are written again all the time: what is
// found is what was put for the page.
func TestCache_Concurrently(t *testing.T) {
	c, err := Open(vfs.OS(), Config{Dir: t.TempDir(), Bytes: regions * minRegion}, nil)
	require.NoError(t, err)
	defer c.Close()
	var wg sync.WaitGroup
	var mu sync.Mutex
	found := 0
	for g := range uint64(8) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(g, 1))
			for range 400 {
				block := id(byte(rng.IntN(3)))
				from := rng.Uint32N(300)
				switch rng.IntN(20) {
				case 0:
					c.Forget(block)
				case 1, 2, 3, 4, 5, 6, 7, 8:
					var w Batch
					for n := range uint32(20) {
						p := Page{block, 1, from + n}
						w.Add(p, content(p, 50+rng.IntN(100)))
					}
					c.Put(&w)
				default:
					var l Loaded
					pages := []uint32{from, from + 1, from + 2, from + 9}
					if err := c.Load(block, 1, pages, &l, func(n int64) ([]byte, error) { return make([]byte, n), nil }); err != nil {
						t.Error(err)
						return
					}
					for i, e := range l.Entries {
						if all := e.All(); len(all) > 0 {
							want := content(Page{block, 1, pages[i]}, 1)
							if !bytes.HasPrefix(all[0].Bytes, want[0].Bytes) || len(all[0].Bytes)%len(want[0].Bytes) != 0 || string(all[1].Bytes) != "raw" {
								t.Errorf("page %d has the chunks of another one", pages[i])
							}
							mu.Lock()
							found++
							mu.Unlock()
						}
					}
				}
			}
		})
	}
	wg.Wait()
	require.Greater(t, found, 100)
}

func TestBatch_Last(t *testing.T) {
	var w Batch
	a, b := Page{id(1), 1, 1}, Page{id(1), 1, 2}
	require.Nil(t, w.Last(a))
	w.Add(a, content(a, 1))
	w.Add(b, content(b, 2))
	size := w.Len()
	require.Nil(t, w.Last(a))
	require.Equal(t, content(b, 2), w.Last(b))
	require.Less(t, w.Len(), size)
	require.Equal(t, content(a, 1), w.Last(a))
	require.Zero(t, w.Len())
	w.Add(a, []Chunk{{Bytes: make([]byte, maxEntry)}})
	require.Zero(t, w.Len(), "too large")
	require.Empty(t, w.Last(a))
}

func FuzzParse(f *testing.F) {
	p := Page{id(1), 1, 1}
	f.Add(appendEntry(nil, p, content(p, 2)))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, ok := parse(b, p)
		if ok {
			require.NotNil(t, e.table)
		}
		e.All()
		e.Find(700)
	})
}
