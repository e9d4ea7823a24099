package endpoint

import (
	"context"
	"slices"
	"sync"
	"time"
)

// How the time-out of a store follows from its own latency: paceFactor times the
// longest of its last paceWindow waits, and at least paceFloor, once paceEnough
// waits are known.
const (
	paceWindow = 64
	paceEnough = 8
	paceFactor = 10
	paceFloor  = 10 * time.Second
)

// pace is how fast a store answers: how long it was waited for, for the first and
// for each next frame of a stream, or for a whole answer. A stream that makes
// progress is never stopped, however long it takes. It implements storerpc.Pace
// and may be used concurrently.
type pace struct {
	// most is the configured time-out; 0 means that only the request's time bounds
	// a wait.
	most time.Duration

	mtx    sync.Mutex
	waits  [paceWindow]time.Duration
	number int
}

// Limit is how long the store may be silent now: less than the request may still
// take, so that the answers of the others arrive; 0 means that nothing but the time of
// the request bounds it. A request with little time left waits for the store to its end:
// it has timed out then, which is another answer than that of a store that is missing.
func (p *pace) Limit(ctx context.Context) time.Duration {
	limit := p.most
	if deadline, ok := ctx.Deadline(); ok {
		if left := time.Until(deadline); left >= paceFloor {
			limit = shorter(limit, left*3/4)
		}
	}
	p.mtx.Lock()
	defer p.mtx.Unlock()
	if p.number < paceEnough {
		return limit
	}
	longest := slices.Max(p.waits[:min(p.number, paceWindow)])
	return shorter(limit, max(paceFloor, paceFactor*longest))
}

// shorter is the shorter one of two times of which 0 means none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// Waited notes how long the store was waited for. A wait that reached its limit
// counts, too: a store that has become slower gets more time at the next try.
func (p *pace) Waited(d time.Duration) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	p.waits[p.number%paceWindow] = d
	p.number++
}
