package compact

import (
	"sync"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// quarantine remembers, as long as the process runs, the blocks that no job
// takes any more, and why. It may be used concurrently.
type quarantine struct {
	mu     sync.Mutex
	blocks map[ulid.ULID]string
	gauge  *prometheus.GaugeVec
}

// add quarantines a block. kind is short, for metrics.
func (q *quarantine) add(id ulid.ULID, kind, reason string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := q.blocks[id]; ok {
		return
	}
	q.blocks[id] = reason
	q.gauge.WithLabelValues(id.String(), kind).Set(1)
}

// reasons returns a copy.
func (q *quarantine) reasons() map[ulid.ULID]string {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make(map[ulid.ULID]string, len(q.blocks))
	for id, reason := range q.blocks {
		out[id] = reason
	}
	return out
}
