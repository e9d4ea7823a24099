package replicate

import (
	"sync"

	"github.com/hindsight-io/hindsight/pkg/receive/hashring"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// Request is the series of one tenant.
type Request struct {
	Tenant string
	Batch  *remotewrite.Batch
}

// Part is what one node gets for one tenant as one replica number.
type Part struct {
	Tenant string
	// Replica is the number of the copy, from 1; 0 when the part holds several,
	// for a peer that does not care.
	Replica int
	// Regions are series in wire form, back to back.
	Regions [][]byte
	// sets are indexes of the plan's sets.
	sets []int
}

// local is what this node stores itself for one request.
type local struct {
	Request
	// all says that every series is for this node; otherwise series are the
	// indexes of those that are.
	all    bool
	series []uint32
	sets   []int
}

// Plan says who gets what of a write.
type Plan struct {
	Sets   []SetState
	locals []local
	peers  map[string][]Part
	arena  *remotewrite.Buffer
}

// target is what spreading needs to know about the world.
type target struct {
	rings *hashring.Rings
	// self is the address of this node in the ring, "" for a pure router.
	self string
	// only, when not 0, is the one replica number to write.
	only int
	// merge says that a peer takes several replica numbers in one part.
	merge func(address string) bool
}

// scratch is the reused memory of spreading.
type scratch struct {
	hasher remotewrite.Hasher
	setOf  []uint32
	bytes  []int
	index  []int
}

// scratches holds scratch memory between writes.
var scratches = sync.Pool{New: func() any { return new(scratch) }}

// spread decides which node gets which series. The bytes of the series are
// copied once, grouped by replica set, into one arena that the plan owns.
func spread(reqs []Request, t target) (*Plan, error) {
	p := &Plan{peers: map[string][]Part{}}
	size := 0
	for _, r := range reqs {
		size += r.Batch.Size()
	}
	p.arena = remotewrite.NewBuffer(size)
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	for _, r := range reqs {
		ring, err := t.rings.For(r.Tenant)
		if err != nil {
			p.arena.Release()
			return nil, remotewrite.Errorf(remotewrite.Other, "%w", err)
		}
		if err := p.add(r, ring, t, s); err != nil {
			p.arena.Release()
			return nil, err
		}
	}
	return p, nil
}

func (p *Plan) add(r Request, ring *hashring.Ring, t target, s *scratch) error {
	if err := s.assign(r, ring); err != nil {
		return err
	}
	self := -1
	for i, e := range ring.Endpoints() {
		if e.Is(t.self) {
			self = i
		}
	}
	firstSet := len(p.Sets)
	mine := local{Request: r, all: true}
	for id := range ring.Sets() {
		if s.bytes[id] == 0 {
			s.index[id] = -1
			continue
		}
		members := ring.Set(id)
		set := len(p.Sets)
		s.index[id] = set - firstSet
		if t.only > 0 {
			members = members[t.only-1 : t.only]
			p.Sets = append(p.Sets, SetState{Replicas: 1, Quorum: 1})
		} else {
			p.Sets = append(p.Sets, SetState{Replicas: len(members), Quorum: Quorum(len(members))})
		}
		isMine := false
		for _, m := range members {
			isMine = isMine || m == self
		}
		if isMine {
			mine.sets = append(mine.sets, set)
		}
	}
	mine.all = len(mine.sets) == len(p.Sets)-firstSet
	regions := p.scatter(r, ring, s, self, &mine, t.only)
	if len(mine.sets) > 0 {
		p.locals = append(p.locals, mine)
	}
	p.address(r, ring, s, regions, firstSet, self, t)
	return nil
}

// assign finds the replica set of each series and the bytes of each set.
func (s *scratch) assign(r Request, ring *hashring.Ring) error {
	s.hasher.Reset(r.Tenant)
	n := r.Batch.Len()
	if cap(s.setOf) < n {
		s.setOf = make([]uint32, n)
	}
	s.setOf = s.setOf[:n]
	if cap(s.bytes) < ring.Sets() {
		s.bytes, s.index = make([]int, ring.Sets()), make([]int, ring.Sets())
	}
	s.bytes, s.index = s.bytes[:ring.Sets()], s.index[:ring.Sets()]
	clear(s.bytes)
	for i := range n {
		h, err := s.hasher.Hash(r.Batch.Series(i).Labels)
		if err != nil {
			return err
		}
		set := ring.Lookup(h)
		s.setOf[i] = uint32(set)
		s.bytes[set] += len(r.Batch.Raw(i))
	}
	return nil
}

// scatter copies the series into the arena, set by set, and returns the region
// of each set in use. Sets that only this node stores are not copied.
func (p *Plan) scatter(r Request, ring *hashring.Ring, s *scratch, self int, mine *local, only int) [][]byte {
	var (
		regions = make([][]byte, 0, 8)
		isMine  = make([]bool, 0, 8)
		at      = len(p.arena.B)
	)
	for id := range ring.Sets() {
		if s.index[id] < 0 {
			continue
		}
		members := ring.Set(id)
		if only > 0 {
			members = members[only-1 : only]
		}
		own, others := false, false
		for _, m := range members {
			own = own || m == self
			others = others || m != self
		}
		isMine = append(isMine, own)
		if !others {
			regions = append(regions, nil)
			continue
		}
		// Regions start empty; their capacity ends where the next begins.
		regions = append(regions, p.arena.B[at:at:at+s.bytes[id]])
		at += s.bytes[id]
	}
	p.arena.B = p.arena.B[:at]
	for i := range r.Batch.Len() {
		set := s.index[s.setOf[i]]
		if cap(regions[set]) > 0 {
			regions[set] = append(regions[set], r.Batch.Raw(i)...)
		}
		if !mine.all && isMine[set] {
			mine.series = append(mine.series, uint32(i))
		}
	}
	return regions
}

// address makes the parts of the peers.
func (p *Plan) address(r Request, ring *hashring.Ring, s *scratch, regions [][]byte, firstSet, self int, t target) {
	type key struct{ endpoint, replica int }
	var (
		keys  []key
		parts []Part
	)
	for id := range ring.Sets() {
		set := s.index[id]
		if set < 0 {
			continue
		}
		for n, m := range ring.Set(id) {
			if m == self || (t.only > 0 && n != t.only-1) {
				continue
			}
			k := key{m, n + 1}
			if t.merge(ring.Endpoints()[m].Address) {
				k.replica = 0
			}
			i := 0
			for i < len(keys) && keys[i] != k {
				i++
			}
			if i == len(keys) {
				keys = append(keys, k)
				parts = append(parts, Part{Tenant: r.Tenant, Replica: k.replica})
			}
			parts[i].Regions = append(parts[i].Regions, regions[set])
			parts[i].sets = append(parts[i].sets, firstSet+set)
		}
	}
	for i, k := range keys {
		address := ring.Endpoints()[k.endpoint].Address
		p.peers[address] = append(p.peers[address], parts[i])
	}
}
