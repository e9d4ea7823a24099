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

// local holds the series of one request that this node stores itself.
type local struct {
	*share
	// all is set when every series is for this node; otherwise series holds the
	// indexes of those that are.
	all    bool
	series []uint32
	sets   []int
}

// share describes how one request is spread over its ring.
type share struct {
	Request
	ring *hashring.Ring
	// first is the index of the request's first set in the plan; the sets of the
	// ring that are in use follow in order.
	first int
	ids   []int
}

// planned returns the index in the plan of a ring's set that is in use.
func (s *share) planned(id int) int {
	i, _ := slices.BinarySearch(s.ids, id)
	return s.first + i
}

// plan assigns the series of a write to nodes.
type plan struct {
	Sets   []setState
	shares []*share
	locals []local
	peers  []peerParts
	size   int // of all requests, in bytes
	arena  *remotewrite.Buffer
	// blocks has the regions of the arena compressed; nil when no peer wants
	// them. It is attached to the arena.
	blocks *remotewrite.Buffer
}

// peerParts holds the parts of one peer.
type peerParts struct {
	address string
	parts   []Part
}

// target describes the rings and peers that series are spread over.
type target struct {
	rings *hashring.Rings
	// self is the address of this node in the ring, "" for a pure router.
	self string
	// only, when not 0, is the one replica number to write.
	only int
	// form returns the form in which a peer takes series.
	form func(address string) Form
}

// Form is the form in which a peer takes series.
type Form struct {
	// Merged allows parts that hold several copies.
	Merged bool
	// Blocks asks for compressed blocks instead of regions.
	Blocks bool
}

// scratch is the reused memory of spreading.
type scratch struct {
	hasher remotewrite.Hasher
	setOf  []uint32
	bytes  []int
	index  []int
	places []place
	forms  []Form // of the ring's endpoints
}

// place locates the series of one set in the arena and in the blocks. Both ranges
// are empty for sets that only this node stores.
type place struct{ from, to, blockFrom, blockTo int }

// scratches holds scratch memory between writes.
var scratches = sync.Pool{New: func() any { return new(scratch) }}

// spread decides which node gets which series. The bytes of the series are
// copied once, grouped by replica set, into one arena that the plan owns.
func spread(reqs []Request, t target) (*plan, error) {
	p := &plan{}
	for _, r := range reqs {
		p.size += r.Batch.Size()
	}
	p.arena = remotewrite.NewBuffer(p.size)
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	for _, r := range reqs {
		ring, err := t.rings.For(r.Tenant)
		if err != nil {
			p.release()
			return nil, remotewrite.Errorf(remotewrite.Other, "%w", err)
		}
		if err := p.add(r, ring, t, s); err != nil {
			p.release()
			return nil, err
		}
	}
	if p.blocks != nil {
		p.arena.Attach(p.blocks)
	}
	return p, nil
}

// release frees a plan that was not finished.
func (p *plan) release() {
	p.arena.Release()
	p.blocks.Release()
}

// spreader spreads one request over one ring.
type spreader struct {
	*plan
	*scratch
	*share
	target
	// me is this node's index in the ring, or -1.
	me int
	// packed is set when there are blocks.
	packed bool
}

// add spreads one request.
func (p *plan) add(r Request, ring *hashring.Ring, t target, s *scratch) error {
	w := spreader{plan: p, scratch: s, target: t, share: &share{Request: r, ring: ring, first: len(p.Sets)}, me: -1}
	w.forms = w.forms[:0]
	for i, e := range ring.Endpoints() {
		if e.Is(t.self) {
			w.me = i
			w.forms = append(w.forms, Form{})
			continue
		}
		w.forms = append(w.forms, t.form(e.Address))
	}
	if err := w.assign(); err != nil {
		return err
	}
	used := 0
	for _, n := range w.bytes {
		if n > 0 {
			used++
		}
	}
	w.ids = make([]int, 0, used)
	p.Sets = slices.Grow(p.Sets, used)
	mine := local{share: w.share, sets: make([]int, 0, used)}
	for id := range ring.Sets() {
		if w.bytes[id] == 0 {
			w.index[id] = -1
			continue
		}
		set := len(p.Sets)
		w.index[id] = set - w.first
		w.ids = append(w.ids, id)
		members := w.members(id)
		quorum := quorumOf(len(members))
		p.Sets = append(p.Sets, setState{Replicas: len(members), Quorum: quorum})
		if slices.Contains(members, w.me) {
			mine.sets = append(mine.sets, set)
		}
	}
	p.shares = append(p.shares, w.share)
	mine.all = len(mine.sets) == len(p.Sets)-w.first
	w.scatter(&mine)
	if len(mine.sets) > 0 {
		p.locals = append(p.locals, mine)
	}
	w.pack()
	w.address()
	if w.me < 0 && len(r.Batch.Metadata()) > 0 {
		w.describe()
	}
	return nil
}

// describe sends the metadata of the request to one replica set of its tenant. The
// write does not wait for the answer, as senders repeat their metadata.
func (w *spreader) describe() {
	from := len(w.arena.B)
	w.arena.B = w.Batch.AppendMetadata(w.arena.B)
	hash, _ := w.hasher.Hash(nil) // of the tenant alone
	for _, m := range w.ring.Set(w.ring.Lookup(hash)) {
		// Peers of other programs do not know the form.
		if w.forms[m].Merged {
			region := w.arena.B[from:len(w.arena.B):len(w.arena.B)]
			w.give(w.ring.Endpoints()[m].Address, Part{Tenant: w.Tenant, Regions: [][]byte{region}})
		}
	}
}

// give adds a part for a peer.
func (w *spreader) give(address string, p Part) {
	k := slices.IndexFunc(w.peers, func(p peerParts) bool { return p.address == address })
	if k < 0 {
		k = len(w.peers)
		w.peers = append(w.peers, peerParts{address: address})
	}
	w.peers[k].parts = append(w.peers[k].parts, p)
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
	s, n, sets := w.scratch, w.Batch.Len(), w.ring.Sets()
	s.hasher.Reset(w.Tenant)
	s.setOf = slices.Grow(s.setOf[:0], n)[:n]
	s.bytes = slices.Grow(s.bytes[:0], sets)[:sets]
	s.index = slices.Grow(s.index[:0], sets)[:sets]
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

// scatter copies the series into the arena, set by set. Sets that only this
// node stores are not copied.
func (w *spreader) scatter(mine *local) {
	at := len(w.arena.B)
	w.places = w.places[:0]
	isMine := make([]bool, len(w.ids))
	for i, id := range w.ids {
		members := w.members(id)
		isMine[i] = slices.Contains(members, w.me)
		p := place{from: at, to: at}
		if !isMine[i] || len(members) > 1 {
			at += w.bytes[id]
		} else {
			p.from = -1
		}
		w.places = append(w.places, p)
	}
	w.arena.B = w.arena.B[:at]
	for i := range w.Batch.Len() {
		set := w.index[w.setOf[i]]
		if p := &w.places[set]; p.from >= 0 {
			p.to += copy(w.arena.B[p.to:], w.Batch.Raw(i))
		}
		if !mine.all && isMine[set] {
			mine.series = append(mine.series, uint32(i))
		}
	}
}

// minBlock is the average size of regions, in bytes, from which it pays to
// compress each once for all its nodes. Smaller ones compress badly; in large
// rings the client of the peer compresses its whole part.
const minBlock = 16 << 10

// pack compresses the regions that a peer wants as blocks, each once.
func (w *spreader) pack() {
	w.packed = len(w.ids) > 0 && w.Batch.Size() >= minBlock*len(w.ids)
	if !w.packed {
		return
	}
	for i, id := range w.ids {
		p := &w.places[i]
		if p.from < 0 || !w.wantsBlocks(id) {
			continue
		}
		if w.blocks == nil {
			w.blocks = remotewrite.NewBuffer(remotewrite.MaxBlockSize(w.size))
		}
		p.blockFrom = len(w.blocks.B)
		w.blocks.Grow(remotewrite.MaxBlockSize(p.to - p.from))
		w.blocks.B = remotewrite.AppendBlock(w.blocks.B, w.arena.B[p.from:p.to])
		p.blockTo = len(w.blocks.B)
	}
}

// wantsBlocks reports whether a member of the set takes blocks.
func (w *spreader) wantsBlocks(id int) bool {
	for _, m := range w.members(id) {
		if w.forms[m].Blocks {
			return true
		}
	}
	return false
}

// draft is a part being made.
type draft struct {
	Part
	endpoint, end, blockEnd int
}

// address makes the parts of the peers. Regions that are back to back in the
// arena become one.
func (w *spreader) address() {
	drafts := make([]draft, 0, len(w.ring.Endpoints()))
	for i, id := range w.ids {
		for n, m := range w.ring.Set(id) {
			if m == w.me || (w.only > 0 && n != w.only-1) {
				continue
			}
			form, replica := w.forms[m], n+1
			if form.Merged {
				replica = 0
			}
			k := slices.IndexFunc(drafts, func(d draft) bool { return d.endpoint == m && d.Replica == replica })
			if k < 0 {
				k = len(drafts)
				drafts = append(drafts, draft{
					endpoint: m, end: -1, blockEnd: -1,
					Part: Part{
						Tenant: w.Tenant, Replica: replica,
						sets: make([]int, 0, len(w.ids)), Sizes: make([]int, 0, len(w.ids)),
					},
				})
				if form.Merged {
					drafts[k].replicas = make([]int, 0, len(w.ids))
				}
			}
			d, p := &drafts[k], w.places[i]
			d.Regions, d.end = extend(d.Regions, w.arena.B, d.end, p.from, p.to), p.to
			if form.Blocks && w.packed {
				d.Blocks, d.blockEnd = extend(d.Blocks, w.blocks.B, d.blockEnd, p.blockFrom, p.blockTo), p.blockTo
			}
			d.sets, d.Sizes = append(d.sets, w.first+i), append(d.Sizes, p.to-p.from)
			if form.Merged {
				d.replicas = append(d.replicas, n+1)
			}
		}
	}
	for _, d := range drafts {
		w.give(w.ring.Endpoints()[d.endpoint].Address, d.Part)
	}
}

// extend adds mem[from:to] to the list, to its last slice when that ended at
// from.
func extend(list [][]byte, mem []byte, end, from, to int) [][]byte {
	if end == from && len(list) > 0 {
		last := &list[len(list)-1]
		*last = mem[from-len(*last) : to : to]
		return list
	}
	return append(list, mem[from:to:to])
}
