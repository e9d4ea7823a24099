package store

import (
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// quarantineTime is how long a block whose index cannot be used is not read. Then it
// is tried again, because its object may have been repaired.
const quarantineTime = 15 * time.Minute

// quarantine remembers the blocks that are damaged.
type quarantine struct {
	mu     sync.Mutex
	broken map[ulid.ULID]brokenBlock
	// reported has the parts of blocks whose damage was logged.
	reported map[blockPart]struct{}
}

type brokenBlock struct {
	reason string
	until  time.Time
}

type blockPart struct {
	id   ulid.ULID
	part string
}

// add quarantines a block.
func (q *quarantine) add(id ulid.ULID, reason string, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.broken == nil {
		q.broken = map[ulid.ULID]brokenBlock{}
	}
	q.broken[id] = brokenBlock{reason: reason, until: now.Add(quarantineTime)}
}

// firstReport says whether damage of a part of a block was not reported before.
func (q *quarantine) firstReport(id ulid.ULID, part string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	k := blockPart{id, part}
	if _, ok := q.reported[k]; ok {
		return false
	}
	if q.reported == nil {
		q.reported = map[blockPart]struct{}{}
	}
	q.reported[k] = struct{}{}
	return true
}

// reason returns the damage for which a block is quarantined, or "".
func (q *quarantine) reason(id ulid.ULID, now time.Time) string {
	q.mu.Lock()
	defer q.mu.Unlock()
	b, ok := q.broken[id]
	if !ok || now.After(b.until) {
		return ""
	}
	return b.reason
}

// current returns the blocks that are quarantined at a time.
func (q *quarantine) current(now time.Time) map[ulid.ULID]struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make(map[ulid.ULID]struct{}, len(q.broken))
	for id, b := range q.broken {
		if !now.After(b.until) {
			out[id] = struct{}{}
		}
	}
	return out
}

// keepOnly forgets blocks that are no longer in the bucket.
func (q *quarantine) keepOnly(metas map[ulid.ULID]*block.Meta) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for id := range q.broken {
		if metas[id] == nil {
			delete(q.broken, id)
		}
	}
	for k := range q.reported {
		if metas[k.id] == nil {
			delete(q.reported, k)
		}
	}
}
