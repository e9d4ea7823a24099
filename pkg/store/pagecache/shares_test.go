package pagecache

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// shared is a disk tier of few slots, with objects of many pages.
type shared struct {
	*disk
	t *testing.T
}

const sharedSlots = 64

func newShared(t *testing.T) shared {
	d, err := openDisk(vfs.OS(), t.TempDir(), sharedSlots*(pageSize+diskEntrySize))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.close()) })
	return shared{d, t}
}

func sharedObject(file int, tenant string) Object {
	return Object{Block: ulid.ULID{1}, File: uint32(file), Name: "o", Size: 4096 * pageSize, Tenant: tenant}
}

// read reads pages as a request does: it puts those that are absent, and returns their
// number.
func (s shared) read(o Object, first, end uint32) (absent int) {
	for page := first; page < end; page++ {
		one := loadedRun{run: run{first: page, end: page + 1}, b: make([]byte, pageSize)}
		if len(s.get(o, &one, one.run, nil)) > 0 {
			s.put(o, page, bytes.Repeat([]byte{byte(page)}, pageSize))
			absent++
		}
	}
	return absent
}

// A tenant that reads more than the cache holds does not push out the pages of another one
// within its share, and these go when their tenant reads no more.
func TestDisk_TenantsHaveShares(t *testing.T) {
	for _, c := range []struct {
		reader string
		absent int
	}{{"small", 0}, {"large", 16}} {
		s := newShared(t)
		mine, theirs := sharedObject(1, c.reader), sharedObject(2, "large")
		s.read(theirs, 0, 10)
		s.read(mine, 0, 16)
		next := uint32(10)
		for range 5 {
			s.read(theirs, next, next+2*sharedSlots)
			next += 2 * sharedSlots
			require.Equal(t, c.absent, s.read(mine, 0, 16), c.reader)
		}
		s.read(theirs, next, next+8*sharedSlots)
		require.Equal(t, 16, s.read(mine, 0, 16), "%s read nothing for long", c.reader)
	}
}

// A tenant alone has the whole cache, and pages that two tenants read count for the one
// that has fewer.
func TestDisk_SharesFollowReaders(t *testing.T) {
	s := newShared(t)
	s.read(sharedObject(1, "a"), 0, sharedSlots)
	require.Zero(t, s.read(sharedObject(1, "a"), 0, sharedSlots))
	require.Zero(t, s.read(sharedObject(1, "b"), 0, 40))
	require.Equal(t, 32, s.shares.owned[s.shares.known("a")])
	require.Equal(t, 32, s.shares.owned[s.shares.known("b")])
}

// The slots of each tenant are counted rightly through random reads, drops and forgotten
// blocks, and tenants without slots are forgotten.
func TestDisk_SharesCountSlots(t *testing.T) {
	s, r := newShared(t), rand.New(rand.NewPCG(1, 2))
	for round := range 4000 {
		tenant := ""
		if n := r.IntN(8); n > 0 {
			tenant = fmt.Sprint("t", n+round/1000)
		}
		o, page := sharedObject(r.IntN(3), tenant), r.Uint32N(200)
		switch r.IntN(20) {
		case 0:
			s.drop(key{o.Block, o.File, page})
		case 1:
			if r.IntN(20) == 0 {
				s.forget(o.Block)
			}
		default:
			s.read(o, page, page+1+r.Uint32N(5))
		}
		if round%100 > 0 {
			continue
		}
		counted := map[uint16]int{}
		for n, id := range s.owner {
			if s.slot[n].table == nil {
				require.Zero(t, id)
			} else if id != 0 {
				counted[id]++
			}
		}
		require.Len(t, s.shares.ids, len(counted))
		for name, id := range s.shares.ids {
			require.Equal(t, counted[id], s.shares.owned[id], name)
			require.Equal(t, name, s.shares.names[id])
		}
	}
}
