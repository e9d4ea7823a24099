package compact

import (
	"maps"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// badBlock is what is wrong with a block, and since when this process knows.
type badBlock struct {
	reason  reason.Reason
	details string
	since   time.Time
}

// A block is quarantined for firstQuarantine after its first failure, and for twice as
// long after each further one, up to maxQuarantine.
const (
	firstQuarantine = 15 * time.Minute
	maxQuarantine   = 24 * time.Hour
)

// quarantine holds the blocks that no job takes, with their errors. A block is held for a
// limited time, because not every failure is the fault of the block for ever: an object is
// uploaded again, memory or a network flips a bit. Then the next pass tries it; a block that
// fails again is held for longer. It may be used concurrently.
type quarantine struct {
	mu     sync.Mutex
	blocks map[ulid.ULID]*heldBlock
	gauge  *prometheus.GaugeVec
}

// heldBlock is a block that has failed.
type heldBlock struct {
	badBlock
	state heldState
	until time.Time
	wait  time.Duration // the last one
}

type heldState int

const (
	held    heldState = iota // no job takes it
	onTrial                  // jobs of this pass may take it
	free                     // it has not failed on trial
)

func newQuarantine(gauge *prometheus.GaugeVec) quarantine {
	return quarantine{blocks: map[ulid.ULID]*heldBlock{}, gauge: gauge}
}

// add quarantines a block from now on. A block that is held keeps its error.
func (q *quarantine) add(id ulid.ULID, why reason.Reason, details string, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := q.blocks[id]
	if b == nil {
		b = &heldBlock{badBlock: badBlock{since: now}, state: free}
		q.blocks[id] = b
	}
	switch b.state {
	case held:
		return
	case free:
		b.since = now
	}
	q.unset(id, b)
	b.reason, b.details, b.state = why, details, held
	b.wait = min(max(2*b.wait, firstQuarantine), maxQuarantine)
	b.until = now.Add(b.wait)
	q.gauge.WithLabelValues(id.String(), why.String()).Set(1)
}

// unset removes the series of a block.
func (q *quarantine) unset(id ulid.ULID, b *heldBlock) {
	q.gauge.DeleteLabelValues(id.String(), b.reason.String())
}

// try lets the jobs of the pass that begins now take the blocks whose time is over, and
// returns them. The metric keeps them until the pass ends.
func (q *quarantine) try(now time.Time) (out []ulid.ULID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for id, b := range q.blocks {
		if b.state == held && !now.Before(b.until) {
			b.state = onTrial
			out = append(out, id)
		}
	}
	return out
}

// passed ends a pass: the blocks that did not fail on trial are free.
func (q *quarantine) passed() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for id, b := range q.blocks {
		if b.state == onTrial {
			b.state = free
			q.unset(id, b)
		}
	}
}

// keep forgets the blocks that the bucket no longer has.
func (q *quarantine) keep(metas map[ulid.ULID]*block.Meta) {
	q.mu.Lock()
	defer q.mu.Unlock()
	maps.DeleteFunc(q.blocks, func(id ulid.ULID, b *heldBlock) bool {
		if metas[id] != nil {
			return false
		}
		q.unset(id, b)
		return true
	})
}

// all returns a copy of the held blocks.
func (q *quarantine) all() map[ulid.ULID]heldBlock {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make(map[ulid.ULID]heldBlock, len(q.blocks))
	for id, b := range q.blocks {
		if b.state == held {
			out[id] = *b
		}
	}
	return out
}

// details returns the held blocks with their errors.
func (q *quarantine) details() map[ulid.ULID]string {
	all := q.all()
	out := make(map[ulid.ULID]string, len(all))
	for id, b := range all {
		out[id] = b.details
	}
	return out
}
