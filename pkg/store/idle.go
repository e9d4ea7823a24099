package store

import (
	"runtime"
	"time"
)

// giveBackAfter is how long a gateway must have been idle, and giveBackLeast how
// much memory it must hold without need, before it gives memory back: one
// collection of garbage costs as much as the heap is large.
const (
	giveBackAfter = 20 * time.Second
	giveBackLeast = 64 << 20
)

// idleness decides when the memory of the last requests is given back to the
// system. The garbage collector would not run before the next request. It belongs
// to one goroutine.
type idleness struct {
	seen, freed uint64
	// unused returns how much memory the process holds beyond what it has in use.
	unused func() uint64
	free   func()
}

// tick is called now and then with the number of requests that have begun, and
// whether any holds memory.
func (i *idleness) tick(begun uint64, busy bool) {
	quiet := !busy && begun == i.seen && begun != i.freed
	i.seen = begun
	if !quiet {
		return
	}
	i.freed = begun
	if i.unused() >= giveBackLeast {
		i.free()
	}
}

// unusedMemory counts garbage, which is not collected yet, as in use only up to
// what the last collection left.
func unusedMemory() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapSys - m.HeapReleased - min(m.HeapAlloc, m.NextGC/2)
}
