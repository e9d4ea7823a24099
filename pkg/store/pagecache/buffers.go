package pagecache

import (
	"math/bits"
	"sync"
)

// buffers holds the memory of ranges that requests have read and recycled: what was
// recycled last is used first. It may be used concurrently. A sync.Pool would keep as
// much as was ever in use between two collections.
type buffers struct {
	mu   sync.Mutex
	free [maxClass - minClass + 1][][]byte
	kept int
}

// Buffers have a power of two as size, from one page to 2 MiB; larger ones, and those
// beyond maxKept bytes, are left to the garbage collector.
const (
	minClass = 12
	maxClass = 21
	maxKept  = 16 << 20
)

// get returns n bytes with any content.
func (p *buffers) get(n int) []byte {
	class := max(bits.Len(uint(max(n, 1)-1)), minClass)
	if class > maxClass {
		return make([]byte, n)
	}
	if b := p.take(class); b != nil {
		return b[:n]
	}
	return make([]byte, n, 1<<class)
}

func (p *buffers) take(class int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	free := &p.free[class-minClass]
	last := len(*free) - 1
	if last < 0 {
		return nil
	}
	b := (*free)[last]
	(*free)[last] = nil
	*free = (*free)[:last]
	p.kept -= cap(b)
	return b
}

// put takes back bytes of get, to which no reference may be left.
func (p *buffers) put(b []byte) {
	class := bits.Len(uint(cap(b))) - 1
	if class < minClass || class > maxClass || cap(b) != 1<<class {
		return
	}
	b = b[:cap(b)]
	if poisonOnRecycle {
		for i := range b {
			b[i] = 0xdb
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept += len(b)
	p.free[class-minClass] = append(p.free[class-minClass], b)
	for p.kept > maxKept {
		p.shrink()
	}
}

// shrink drops a buffer of the size of which most bytes are kept, so that sizes that are
// in use push out others. It needs the lock.
func (p *buffers) shrink() {
	most := 0
	for class := range p.free {
		if len(p.free[class])<<class > len(p.free[most])<<most {
			most = class
		}
	}
	last := len(p.free[most]) - 1
	p.free[most][last] = nil
	p.free[most] = p.free[most][:last]
	p.kept -= 1 << (most + minClass)
}

// Buffer returns memory for n bytes with any content.
func (c *Cache) Buffer(n int64) []byte { return c.buffers.get(int(n)) }

// GiveBack takes back what Buffer returned, to which no reference may be left.
func (c *Cache) GiveBack(b []byte) { c.buffers.put(b) }
