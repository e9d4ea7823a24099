package multitsdb

import (
	"hash/maphash"
	"runtime"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// seriesCache finds the series of the head by their label bytes as they came
// over the wire, so that labels are parsed for new series only. A hit has been
// compared byte by byte. The label sets are those of the head itself: an entry
// adds about 40 bytes to a series.
//
// lookup may be called concurrently; the others exclude each other and it.
type seriesCache struct {
	seed maphash.Seed

	mu sync.RWMutex
	// slots is an open-addressing table: the upper half of a slot holds 32 bits
	// of the hash, the lower half the number of the entry plus one.
	slots   []uint64
	entries [][]cacheEntry
	free    []uint32
	used    int

	aliases  aliases
	external labels.Labels
	age      uint64
}

type cacheEntry struct {
	labels labels.Labels
	ref    storage.SeriesRef
}

const (
	entryBlock = 256
	minSlots   = 256
)

func newSeriesCache() *seriesCache {
	return &seriesCache{seed: maphash.MakeSeed(), slots: make([]uint64, minSlots)}
}

// hash of label bytes; the seed is secret, so that nobody can make collisions.
func (c *seriesCache) hash(raw []byte) uint32 { return uint32(maphash.Bytes(c.seed, raw) >> 32) }

func (c *seriesCache) entry(slot uint64) *cacheEntry {
	n := uint32(slot) - 1
	return &c.entries[n/entryBlock][n%entryBlock]
}

// lookup finds the entry for the label bytes. The caller holds mu for reading.
func (c *seriesCache) lookup(hash uint32, raw []byte) (cacheEntry, bool) {
	mask := uint32(len(c.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := c.slots[i]
		if s == 0 {
			return cacheEntry{}, false
		}
		if uint32(s>>32) == hash {
			if e := c.entry(s); remotewrite.Matches(raw, e.labels) {
				return *e, true
			}
		}
	}
}

// lookupGroup is how many lookups go on side by side.
const lookupGroup = 32

// lookupAll looks up the label bytes that raw(i) returns, for i below
// len(found), and leaves each result and hash. Each step is done for a group of
// series before the next step, so that the waits for memory of a group overlap:
// with a million series nothing of a lookup is in the processor's caches. The
// caller holds mu for reading.
func (c *seriesCache) lookupAll(raw func(i int) []byte, hashes []uint32, found []cacheEntry) {
	var raws [lookupGroup][]byte
	mask := uint32(len(c.slots) - 1)
	for from := 0; from < len(found); from += lookupGroup {
		n := min(lookupGroup, len(found)-from)
		hs, fs := hashes[from:from+n], found[from:from+n]
		for i := range n {
			raws[i] = raw(from + i)
			hs[i] = c.hash(raws[i])
		}
		var slots [lookupGroup]uint64
		for i := range n {
			slots[i] = c.slots[hs[i]&mask]
		}
		for i := range n {
			fs[i] = cacheEntry{}
			if uint32(slots[i]>>32) == hs[i] && slots[i] != 0 {
				fs[i] = *c.entry(slots[i])
			}
		}
		var sum byte
		for i := range n {
			sum += remotewrite.Touch(fs[i].labels)
		}
		for i := range n {
			if fs[i].ref == 0 || !remotewrite.Matches(raws[i], fs[i].labels) {
				fs[i], _ = c.lookup(hs[i], raws[i])
			}
		}
		runtime.KeepAlive(sum)
	}
}

// find returns the slot of the entry with these labels.
func (c *seriesCache) find(hash uint32, ls labels.Labels) (slot uint32, ok bool) {
	mask := uint32(len(c.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := c.slots[i]
		if s == 0 {
			return i, false
		}
		if uint32(s>>32) == hash && labels.Equal(c.entry(s).labels, ls) {
			return i, true
		}
	}
}

// put adds or replaces an entry. The caller holds mu for writing.
func (c *seriesCache) put(hash uint32, e cacheEntry) {
	if 4*(c.used+1) > 3*len(c.slots) {
		c.resize(2 * len(c.slots))
	}
	i, ok := c.find(hash, e.labels)
	if ok {
		*c.entry(c.slots[i]) = e
		return
	}
	var n uint32
	if last := len(c.free) - 1; last >= 0 {
		n, c.free = c.free[last], c.free[:last]
	} else {
		n = uint32(c.used)
		if int(n/entryBlock) == len(c.entries) {
			c.entries = append(c.entries, make([]cacheEntry, entryBlock))
		}
	}
	c.used++
	c.entries[n/entryBlock][n%entryBlock] = e
	c.slots[i] = uint64(hash)<<32 | uint64(n+1)
}

// remove drops the entry of a series that has left the head; one that has come
// back meanwhile, with another reference, stays.
func (c *seriesCache) remove(hash uint32, ls labels.Labels, ref storage.SeriesRef) {
	i, ok := c.find(hash, ls)
	if !ok || c.entry(c.slots[i]).ref != ref {
		return
	}
	*c.entry(c.slots[i]) = cacheEntry{}
	c.free = append(c.free, uint32(c.slots[i])-1)
	c.used--
	// Move later entries of the run into the hole, so that lookups still end
	// at the first empty slot.
	mask := uint32(len(c.slots) - 1)
	for j := (i + 1) & mask; c.slots[j] != 0; j = (j + 1) & mask {
		home := uint32(c.slots[j]>>32) & mask
		if (j-home)&mask >= (j-i)&mask {
			c.slots[i] = c.slots[j]
			i = j
		}
	}
	c.slots[i] = 0
}

func (c *seriesCache) resize(n int) {
	old := c.slots
	c.slots = make([]uint64, n)
	mask := uint32(n - 1)
	for _, s := range old {
		if s == 0 {
			continue
		}
		i := uint32(s>>32) & mask
		for c.slots[i] != 0 {
			i = (i + 1) & mask
		}
		c.slots[i] = s
	}
}

// shrink gives memory back after many series have left.
func (c *seriesCache) shrink() {
	if len(c.slots) > minSlots && 8*c.used < len(c.slots) {
		c.resize(max(minSlots, len(c.slots)/4))
	}
}
