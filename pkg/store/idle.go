package store

import (
	"runtime"
	"time"
)

// A gateway without requests for freeAfter that has at least freeLeast bytes of unused
// memory returns it to the operating system. The garbage collection for that costs in
// proportion to the heap, so it does not happen for less.
const (
	freeAfter = 20 * time.Second
	freeLeast = 64 << 20
)

// idleness decides when the memory of finished requests is returned to the operating
// system; without it, the garbage collector would not run before the next request.
// It must not be used concurrently.
type idleness struct {
	seen, freed uint64
	// unused returns the bytes of memory that the process has and does not use.
	unused func() uint64
	free   func()
}

// tick is called every freeAfter with the number of requests that have begun, and
// with whether any request holds memory.
func (i *idleness) tick(begun uint64, busy bool) {
	quiet := !busy && begun == i.seen && begun != i.freed
	i.seen = begun
	if !quiet {
		return
	}
	i.freed = begun
	if i.unused() >= freeLeast {
		i.free()
	}
}

// unusedMemory counts garbage that is not collected yet as unused, except for as many
// bytes as the last collection left in use.
func unusedMemory() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapSys - m.HeapReleased - min(m.HeapAlloc, m.NextGC/2)
}
