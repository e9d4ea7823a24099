package compact

import (
	"sync"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hindsight-io/hindsight/pkg/reason"
)

// quarantine holds the blocks that no job takes until the process restarts, with
// their errors. It may be used concurrently.
type quarantine struct {
	mu     sync.Mutex
	blocks map[ulid.ULID]string
	gauge  *prometheus.GaugeVec
}

// add quarantines a block.
func (q *quarantine) add(id ulid.ULID, why reason.Reason, details string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.blocks[id]; ok {
		return
	}
	q.blocks[id] = details
	q.gauge.WithLabelValues(id.String(), why.String()).Set(1)
}

// details returns a copy of the blocks with their errors.
func (q *quarantine) details() map[ulid.ULID]string {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make(map[ulid.ULID]string, len(q.blocks))
	for id, d := range q.blocks {
		out[id] = d
	}
	return out
}
