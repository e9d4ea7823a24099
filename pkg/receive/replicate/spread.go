package replicate

import (
	"slices"
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

// spreader spreads one request over one ring.
type spreader struct {
	*Plan
	*scratch
	target
	Request
	ring *hashring.Ring
	// me is this node's index in the ring, or -1.
	me int
	// first is the index of this request's first set in the plan.
	first int
}

func (p *Plan) add(r Request, ring *hashring.Ring, t target, s *scratch) error {
	w := spreader{Plan: p, scratch: s, target: t, Request: r, ring: ring, me: -1, first: len(p.Sets)}
	for i, e := range ring.Endpoints() {
		if e.Is(t.self) {
			w.me = i
		}
	}
	if err := w.assign(); err != nil {
		return err
	}
	mine := local{Request: r}
	for id := range ring.Sets() {
		if w.bytes[id] == 0 {
			w.index[id] = -1
			continue
		}
		set := len(p.Sets)
		w.index[id] = set - w.first
		members := w.members(id)
		quorum := Quorum(len(members))
		p.Sets = append(p.Sets, SetState{Replicas: len(members), Quorum: quorum})
		if slices.Contains(members, w.me) {
			mine.sets = append(mine.sets, set)
		}
	}
	mine.all = len(mine.sets) == len(p.Sets)-w.first
	regions := w.scatter(&mine)
	if len(mine.sets) > 0 {
		p.locals = append(p.locals, mine)
	}
	w.address(regions)
	return nil
}

// members are the nodes of a set that are written.
func (w *spreader) members(id int) []int {
	if w.only > 0 {
		return w.ring.Set(id)[w.only-1 : w.only]
	}
	return w.ring.Set(id)
}

// assign finds the replica set of each series and the bytes of each set.
func (w *spreader) assign() error {
	s, n := w.scratch, w.Batch.Len()
	s.hasher.Reset(w.Tenant)
	if cap(s.setOf) < n {
		s.setOf = make([]uint32, n)
	}
	s.setOf = s.setOf[:n]
	if cap(s.bytes) < w.ring.Sets() {
		s.bytes, s.index = make([]int, w.ring.Sets()), make([]int, w.ring.Sets())
	}
	s.bytes, s.index = s.bytes[:w.ring.Sets()], s.index[:w.ring.Sets()]
	clear(s.bytes)
	for i := range n {
		h, err := s.hasher.Hash(w.Batch.Series(i).Labels)
		if err != nil {
			return err
		}
		set := w.ring.Lookup(h)
		s.setOf[i] = uint32(set)
		s.bytes[set] += len(w.Batch.Raw(i))
	}
	return nil
}

// scatter copies the series into the arena, set by set, and returns the region
// of each set in use. Sets that only this node stores are not copied.
func (w *spreader) scatter(mine *local) [][]byte {
	var (
		regions = make([][]byte, 0, len(w.Sets)-w.first)
		isMine  = make([]bool, 0, len(w.Sets)-w.first)
		at      = len(w.arena.B)
	)
	for id := range w.ring.Sets() {
		if w.index[id] < 0 {
			continue
		}
		members := w.members(id)
		own := slices.Contains(members, w.me)
		isMine = append(isMine, own)
		if own && len(members) == 1 {
			regions = append(regions, nil)
			continue
		}
		// Regions start empty; their capacity ends where the next begins.
		regions = append(regions, w.arena.B[at:at:at+w.bytes[id]])
		at += w.bytes[id]
	}
	w.arena.B = w.arena.B[:at]
	for i := range w.Batch.Len() {
		set := w.index[w.setOf[i]]
		if cap(regions[set]) > 0 {
			regions[set] = append(regions[set], w.Batch.Raw(i)...)
		}
		if !mine.all && isMine[set] {
			mine.series = append(mine.series, uint32(i))
		}
	}
	return regions
}

// address makes the parts of the peers.
func (w *spreader) address(regions [][]byte) {
	type key struct{ endpoint, replica int }
	var (
		keys  []key
		parts []Part
	)
	for id := range w.ring.Sets() {
		set := w.index[id]
		if set < 0 {
			continue
		}
		for n, m := range w.ring.Set(id) {
			if m == w.me || (w.only > 0 && n != w.only-1) {
				continue
			}
			k := key{m, n + 1}
			if w.merge(w.ring.Endpoints()[m].Address) {
				k.replica = 0
			}
			i := slices.Index(keys, k)
			if i < 0 {
				i = len(keys)
				keys = append(keys, k)
				parts = append(parts, Part{Tenant: w.Tenant, Replica: k.replica})
			}
			parts[i].Regions = append(parts[i].Regions, regions[set])
			parts[i].sets = append(parts[i].sets, w.first+set)
		}
	}
	for i, k := range keys {
		address := w.ring.Endpoints()[k.endpoint].Address
		w.peers[address] = append(w.peers[address], parts[i])
	}
}
