package compact

import (
	"maps"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hindsight-io/hindsight/pkg/reason"
)

// badBlock is what is wrong with a block, and since when this process knows.
type badBlock struct {
	reason  reason.Reason
	details string
	since   time.Time
}

// quarantine holds the blocks that no job takes until the process restarts, with
// their errors. It may be used concurrently.
type quarantine struct {
	mu     sync.Mutex
	blocks map[ulid.ULID]badBlock
	gauge  *prometheus.GaugeVec
}

// add quarantines a block.
func (q *quarantine) add(id ulid.ULID, why reason.Reason, details string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.blocks[id]; ok {
		return
	}
	q.blocks[id] = badBlock{why, details, time.Now()}
	q.gauge.WithLabelValues(id.String(), why.String()).Set(1)
}

// all returns a copy of the blocks.
func (q *quarantine) all() map[ulid.ULID]badBlock {
	q.mu.Lock()
	defer q.mu.Unlock()
	return maps.Clone(q.blocks)
}

// details returns the blocks with their errors.
func (q *quarantine) details() map[ulid.ULID]string {
	all := q.all()
	out := make(map[ulid.ULID]string, len(all))
	for id, b := range all {
		out[id] = b.details
	}
	return out
}
