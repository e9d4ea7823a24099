package query

import (
	"context"
	"time"
)

// Thresholds for returning memory: a garbage collection costs in proportion to
// the size of the heap.
const (
	idleInterval = 20 * time.Second
	idleRequests = 100
	idleMemory   = 16 << 20
)

// giveBack calls free once for each busy time that is over: when no request ran
// from one tick to the next. The garbage collector would not run before the next
// request, so the memory of the last ones would stay with the process.
func (b *memoryBudget) giveBack(ctx context.Context, ticks <-chan time.Time, free func()) {
	var seen, freed uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		}
		b.mtx.Lock()
		begun, idle := b.begun, len(b.open) == 0 && b.begun == seen
		worth := begun-freed >= idleRequests || b.peak >= idleMemory
		if idle && worth {
			b.peak = 0
		}
		b.mtx.Unlock()
		seen = begun
		if idle && worth {
			freed = begun
			free()
		}
	}
}
