package remotewrite

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// Buffer is pooled memory with counted owners. Each call of NewBuffer and Retain
// needs one Release. Views into B are valid only while their holder
// owns the buffer; nothing that lives longer may point into it.
//
// B may be appended to and replaced by its only owner; once shared it is
// read-only.
type Buffer struct {
	B     []byte
	refs  atomic.Int32
	class int8
	with  *Buffer
}

// Sizes of pooled buffers are powers of two between these exponents; larger
// buffers are left to the garbage collector.
const (
	minClass = 12 // 4 KiB
	maxClass = 25 // 32 MiB
)

// bufferPools holds released memory, by size class.
var bufferPools = [maxClass + 1]sync.Pool{}

// NewBuffer returns an empty buffer with capacity for at least size bytes,
// owned by the caller.
func NewBuffer(size int) *Buffer {
	class := max(bits.Len(uint(max(size, 1)-1)), minClass)
	if class > maxClass {
		b := &Buffer{B: make([]byte, 0, size), class: -1}
		b.refs.Store(1)
		return b
	}
	if v := bufferPools[class].Get(); v != nil {
		b := v.(*Buffer)
		b.refs.Store(1)
		return b
	}
	b := &Buffer{B: make([]byte, 0, 1<<class), class: int8(class)}
	b.refs.Store(1)
	return b
}

// Retain adds an owner.
func (b *Buffer) Retain() {
	if b.refs.Add(1) <= 1 {
		panic("BUG: retained a buffer that has been released")
	}
}

// Attach gives b the caller's ownership of other, which is released with b. The
// caller is the only owner of b.
func (b *Buffer) Attach(other *Buffer) {
	if b.with != nil {
		panic("BUG: attached a second buffer")
	}
	b.with = other
}

// Release ends the caller's ownership. A nil buffer is fine.
func (b *Buffer) Release() {
	if b == nil {
		return
	}
	switch n := b.refs.Add(-1); {
	case n > 0:
		return
	case n < 0:
		panic("BUG: released a buffer twice")
	}
	b.with.Release()
	b.with = nil
	if poisonOnRelease {
		all := b.B[:cap(b.B)]
		for i := range all {
			all[i] = 0xDB
		}
	}
	// Appending may have moved B to larger memory: the pool is the one of its size.
	class := bits.Len(uint(cap(b.B))) - 1
	if class < minClass || class > maxClass {
		return
	}
	b.class = int8(class)
	b.B = b.B[:0]
	bufferPools[class].Put(b)
}

// Grow makes room for n more bytes.
func (b *Buffer) Grow(n int) {
	if cap(b.B)-len(b.B) >= n {
		return
	}
	grown := make([]byte, len(b.B), max(len(b.B)+n, 2*cap(b.B)))
	copy(grown, b.B)
	b.B = grown
}
