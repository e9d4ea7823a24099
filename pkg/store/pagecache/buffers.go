package pagecache

import (
	"math/bits"
	"sync"
)

// buffers holds the memory of ranges that requests have read and recycled. It may be
// used concurrently.
type buffers struct {
	classes [maxClass - minClass + 1]sync.Pool
}

// Buffers have a power of two as size, from one page to 2 MiB; larger ones are left to
// the garbage collector.
const (
	minClass = 12
	maxClass = 21
)

// get returns n bytes with any content.
func (p *buffers) get(n int) []byte {
	class := max(bits.Len(uint(max(n, 1)-1)), minClass)
	if class > maxClass {
		return make([]byte, n)
	}
	if b, ok := p.classes[class-minClass].Get().(*[]byte); ok {
		return (*b)[:n]
	}
	return make([]byte, n, 1<<class)
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
	p.classes[class-minClass].Put(&b)
}
