package storerpc

import (
	"math/bits"
	"sync"
)

// bufferPool holds the buffers that gRPC receives messages into. Unlike gRPC's
// own it does not clear a buffer before it is used again: of every buffer just
// the part that was filled is read, and decoding copies the bytes that it keeps.
type bufferPool struct {
	classes [maxClass - minClass + 1]sync.Pool
}

// Buffers have a power of two as size, from 512 bytes to 4 MiB; larger ones are
// left to the garbage collector.
const (
	minClass = 9
	maxClass = 22
)

// Get implements mem.BufferPool.
func (p *bufferPool) Get(length int) *[]byte {
	class := max(bits.Len(uint(max(length, 1)-1)), minClass)
	if class > maxClass {
		b := make([]byte, length)
		return &b
	}
	if b, ok := p.classes[class-minClass].Get().(*[]byte); ok {
		*b = (*b)[:length]
		return b
	}
	b := make([]byte, length, 1<<class)
	return &b
}

// Put implements mem.BufferPool.
func (p *bufferPool) Put(b *[]byte) {
	// The largest class that the buffer can serve whole.
	class := bits.Len(uint(cap(*b))) - 1
	if class < minClass || class > maxClass {
		return
	}
	p.classes[class-minClass].Put(b)
}
