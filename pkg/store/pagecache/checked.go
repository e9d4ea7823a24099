package pagecache

import "github.com/oklog/ulid/v2"

// slotState says whether the page in a slot has matched its checksum since this process
// put it there or found it: its lowest bit. The others count the pages that the slot has
// had, so that a reader notices another one. A page is read many times, and its checksum
// costs as much as reading it.
type slotState uint8

func (s slotState) checked() bool { return s&1 != 0 }

// next is the state of the next page.
func (s slotState) next() slotState { return s&^1 + 2 }

// compare sets same.
func (d *disk) compare(reads []slotRead) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range reads {
		reads[i].same = d.unchanged(&reads[i])
	}
}

// checked records that pages that are the same matched their checksums.
func (d *disk) checked(reads []slotRead) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range reads {
		if r := &reads[i]; r.same && d.unchanged(r) {
			d.state[r.slot] |= 1
		}
	}
}

// unchanged reports whether the slot has the page that it had when the read began. It needs the
// lock.
func (d *disk) unchanged(r *slotRead) bool {
	s := &d.slot[r.slot]
	return s.table == r.table && uint32(s.in) == r.page%tablePages && d.state[r.slot]&^1 == r.state&^1
}

// distrust makes the next read of each page of a block compare its checksum again.
func (d *disk) distrust(block ulid.ULID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, t := range d.tables {
		if k.block != block {
			continue
		}
		for _, n := range t.slot {
			if n > 0 {
				d.state[n-1] &^= 1
			}
		}
	}
}
