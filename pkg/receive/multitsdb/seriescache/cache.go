// Package seriescache finds the series of a TSDB's head by their label bytes as
// they were sent, so that labels are parsed for new series only.
package seriescache

import (
	"hash/maphash"
	"runtime"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// Cache maps label bytes to series of the head. A hit has been compared byte by
// byte. The label sets are those of the head itself: an entry adds about 40 bytes
// to a series. Its methods may be called concurrently.
type Cache struct {
	seed maphash.Seed

	mu sync.RWMutex
	// slots is an open-addressing table: the upper half of a slot holds 32 bits
	// of the hash, the lower half the number of the entry plus one.
	slots   []uint64
	entries [][]Entry
	free    []uint32
	used    int

	aliases  aliases
	external labels.Labels
	age      uint64
}

// Entry is a series of the head. The zero entry is no series.
type Entry struct {
	Labels labels.Labels
	Ref    storage.SeriesRef
}

// Fresh is a series to add.
type Fresh struct {
	Hash  uint32 // of its label bytes, from Lookup
	Entry Entry
	// Alias are the label bytes, where they are not those of the stored series.
	Alias []byte
}

const (
	entryBlock = 256
	minSlots   = 256
)

// New returns an empty cache.
func New() *Cache {
	return &Cache{seed: maphash.MakeSeed(), slots: make([]uint64, minSlots)}
}

// hash returns the hash of label bytes. The seed is secret, so that no sender can
// make collisions.
func (c *Cache) hash(raw []byte) uint32 { return uint32(maphash.Bytes(c.seed, raw) >> 32) }

func (c *Cache) entry(slot uint64) *Entry {
	n := uint32(slot) - 1
	return &c.entries[n/entryBlock][n%entryBlock]
}

// lookup returns the entry for the label bytes. The caller holds mu for reading.
func (c *Cache) lookup(hash uint32, raw []byte) (Entry, bool) {
	mask := uint32(len(c.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := c.slots[i]
		if s == 0 {
			return Entry{}, false
		}
		if uint32(s>>32) == hash {
			if e := c.entry(s); remotewrite.Matches(raw, e.Labels) {
				return *e, true
			}
		}
	}
}

// lookupGroup is the number of lookups that are done side by side.
const lookupGroup = 32

// Lookup looks up the label bytes that raw(i) returns, for i below len(found), and
// writes each entry, or the zero entry, and hash. aliased reports whether Alias can
// have what it did not find. Each step is done for a group of series before the
// next step, so that the waits for memory of a group overlap: with a million series
// nothing of a lookup is in the processor's caches.
func (c *Cache) Lookup(raw func(i int) []byte, hashes []uint32, found []Entry) (aliased bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
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
			fs[i] = Entry{}
			if uint32(slots[i]>>32) == hs[i] && slots[i] != 0 {
				fs[i] = *c.entry(slots[i])
			}
		}
		var sum byte
		for i := range n {
			sum += remotewrite.Touch(fs[i].Labels)
		}
		for i := range n {
			if fs[i].Ref == 0 || !remotewrite.Matches(raws[i], fs[i].Labels) {
				fs[i], _ = c.lookup(hs[i], raws[i])
			}
		}
		runtime.KeepAlive(sum)
	}
	return len(c.aliases.by) > 0
}

// Add adds series, unless the cache has been emptied since Use returned age.
func (c *Cache) Add(age uint64, fresh []Fresh) {
	if len(fresh) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.age != age {
		return
	}
	for _, f := range fresh {
		if f.Alias != nil {
			c.aliases.put(f.Alias, f.Entry)
			continue
		}
		c.put(f.Hash, f.Entry)
	}
}

// Remove removes series that have left the head.
func (c *Cache) Remove(gone map[chunks.HeadSeriesRef]labels.Labels) {
	var raw []byte
	c.mu.Lock()
	defer c.mu.Unlock()
	for ref, ls := range gone {
		raw = remotewrite.AppendLabels(raw[:0], ls)
		c.remove(c.hash(raw), ls, storage.SeriesRef(ref))
		c.aliases.remove(storage.SeriesRef(ref))
	}
	c.shrink()
}

// Len returns the number of series that are known by their own label bytes, and
// the number of other forms of label bytes that are known.
func (c *Cache) Len() (series, aliases int) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.used, len(c.aliases.by)
}

// find returns the slot of the entry with these labels.
func (c *Cache) find(hash uint32, ls labels.Labels) (slot uint32, ok bool) {
	mask := uint32(len(c.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := c.slots[i]
		if s == 0 {
			return i, false
		}
		if uint32(s>>32) == hash && labels.Equal(c.entry(s).Labels, ls) {
			return i, true
		}
	}
}

// put adds or replaces an entry. The caller holds mu for writing.
func (c *Cache) put(hash uint32, e Entry) {
	if 4*(c.used+1) > 3*len(c.slots) {
		c.resize(2 * len(c.slots))
	}
	i, ok := c.find(hash, e.Labels)
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
			c.entries = append(c.entries, make([]Entry, entryBlock))
		}
	}
	c.used++
	c.entries[n/entryBlock][n%entryBlock] = e
	c.slots[i] = uint64(hash)<<32 | uint64(n+1)
}

// remove drops the entry of a series that has left the head, unless the series has
// come back meanwhile with another reference. The caller holds mu for writing.
func (c *Cache) remove(hash uint32, ls labels.Labels, ref storage.SeriesRef) {
	i, ok := c.find(hash, ls)
	if !ok || c.entry(c.slots[i]).Ref != ref {
		return
	}
	*c.entry(c.slots[i]) = Entry{}
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

// resize makes the table one of n slots. The caller holds mu for writing.
func (c *Cache) resize(n int) {
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

// shrink gives memory back after many series have left. The caller holds mu for
// writing.
func (c *Cache) shrink() {
	if len(c.slots) > minSlots && 8*c.used < len(c.slots) {
		c.resize(max(minSlots, len(c.slots)/4))
	}
}
