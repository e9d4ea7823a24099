package pagecache

import (
	"slices"

	"github.com/oklog/ulid/v2"
)

// Blocks returns the blocks of which pages are kept, in ascending order.
func (c *Cache) Blocks() []ulid.ULID {
	kept := map[ulid.ULID]struct{}{}
	if c.memory != nil {
		for k := range c.memory.Keys() {
			kept[k.block] = struct{}{}
		}
	}
	if c.disk != nil {
		c.disk.blocks(kept)
	}
	out := make([]ulid.ULID, 0, len(kept))
	for id := range kept {
		out = append(out, id)
	}
	slices.SortFunc(out, ulid.ULID.Compare)
	return out
}

// Forget drops the pages of a block, and overwrites those on disk: they may have samples
// that were deleted.
func (c *Cache) Forget(block ulid.ULID) {
	c.forgetMemory(block)
	if c.disk != nil {
		c.disk.forget(block)
	}
}

// blocks adds the blocks that have pages.
func (d *disk) blocks(to map[ulid.ULID]struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k := range d.tables {
		to[k.block] = struct{}{}
	}
}

// forget drops the pages of a block. No put takes their slots before they are overwritten.
func (d *disk) forget(block ulid.ULID) {
	var slots []uint32
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return
	}
	for k, t := range d.tables {
		if k.block != block {
			continue
		}
		for _, n := range t.slot {
			if n > 0 {
				d.free(n - 1)
				d.used[n-1] = 0
				d.busy[n-1] = true
				slots = append(slots, n-1)
			}
		}
	}
	d.mu.Unlock()
	slices.Sort(slots)
	var zeros []byte
	for len(slots) > 0 {
		n := 1
		for n < len(slots) && n < maxTogether && slots[n] == slots[n-1]+1 {
			n++
		}
		if len(zeros) < n*pageSize {
			zeros = make([]byte, n*pageSize)
		}
		d.overwrite(slots[0], zeros[:n*pageSize])
		slots = slots[n:]
	}
}

// overwrite writes zeros into neighbouring busy slots, which are free again then. The pages
// go before their entries: after a crash in between, the next process finds the entries, and
// forgets the block again.
func (d *disk) overwrite(first uint32, zeros []byte) {
	n := len(zeros) / pageSize
	_, err := d.f.WriteAt(zeros, d.dataOffset(first))
	if err == nil {
		_, err = d.f.WriteAt(zeros[:n*diskEntrySize], d.entryOffset(first))
	}
	if err != nil {
		d.failed.Add(1)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range n {
		d.busy[first+uint32(i)] = false
	}
}
