package pagecache

// protectedChances is how many times the hand of the clock passes a page of a tenant that
// has no more than its share, without another use, before the page may go. Pages of a
// tenant that has more than its share get one.
const protectedChances = 4

// shares are the slots of the disk tier by the tenant for which they are kept. While
// several tenants have pages, each one's share is an equal part of the slots: a tenant that
// reads much replaces its own pages before those of others. A tenant that stops reading
// loses its pages in the end. The zero value is ready to use; the disk's lock guards it.
type shares struct {
	ids   map[string]uint16
	names []string // by id
	// owned counts the slots, by id. Slots without a tenant have the id 0.
	owned []int
	free  []uint16 // ids of tenants without slots
}

// known returns the number of a tenant that has slots, or 0.
func (s *shares) known(tenant string) uint16 { return s.ids[tenant] }

// id returns the number of a tenant, which must then get a slot. It is 0 for no tenant,
// and when there are too many.
func (s *shares) id(tenant string) uint16 {
	if tenant == "" {
		return 0
	}
	if id, ok := s.ids[tenant]; ok {
		return id
	}
	if s.ids == nil {
		s.ids, s.names, s.owned = map[string]uint16{}, make([]string, 1), make([]int, 1)
	}
	var id uint16
	switch n := len(s.free); {
	case n > 0:
		id = s.free[n-1]
		s.free = s.free[:n-1]
		s.names[id] = tenant
	case len(s.names) < 1<<16:
		id = uint16(len(s.names))
		s.names, s.owned = append(s.names, tenant), append(s.owned, 0)
	default:
		return 0
	}
	s.ids[tenant] = id
	return id
}

// move counts a slot for another tenant than before.
func (s *shares) move(from, to uint16) {
	if from == to {
		return
	}
	if to != 0 {
		s.owned[to]++
	}
	if from == 0 {
		return
	}
	if s.owned[from]--; s.owned[from] == 0 {
		delete(s.ids, s.names[from])
		s.free = append(s.free, from)
	}
}

// prefers reports whether a page of the tenant before counts for the tenant from now on,
// which has read it: the one of the two that has fewer pages.
func (s *shares) prefers(tenant string, before uint16) bool {
	if id := s.known(tenant); tenant == "" || id != 0 && id == before {
		return false
	} else if before != 0 && id != 0 {
		return s.owned[id] < s.owned[before]
	}
	return true
}

// chances are those of a page of the tenant in a cache of so many slots, which has just
// been read from the disk tier, or written to it.
func (s *shares) chances(id uint16, slots uint32, written bool) uint8 {
	tenants := len(s.ids)
	owned := 0
	if id == 0 {
		tenants++ // it has no slot yet
	} else {
		owned = s.owned[id]
	}
	switch {
	case tenants < 2:
		return 1
	case owned <= int(slots)/tenants:
		return protectedChances
	case written:
		return 0
	}
	return 1
}

// own records the tenant for which a slot is kept. It needs the lock.
func (d *disk) own(n uint32, tenant uint16) {
	d.shares.move(d.owner[n], tenant)
	d.owner[n] = tenant
}

// use records that a tenant has read the page in a slot. It needs the lock.
func (d *disk) use(n uint32, tenant string) {
	if d.shares.prefers(tenant, d.owner[n]) {
		d.own(n, d.shares.id(tenant))
	}
	chances := uint8(1)
	if d.owner[n] != 0 {
		chances = d.shares.chances(d.owner[n], d.slots, false)
	}
	d.used[n] = max(d.used[n], chances)
}
