package plan

import (
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// deletions plans the deletion of blocks whose mark is old enough. A block without
// meta.json, whose deletion was interrupted, is among the partial ones.
func (m *maker) deletions() {
	for _, id := range sortedIDs(m.view.Deletion) {
		b := m.view.Metas[id]
		if b == nil || !m.owns(b) {
			continue
		}
		if !m.due(id) {
			m.skip(b, "marked for deletion %s ago, deleted after %s", span(m.marked(id)), span(m.policy.DeleteDelay))
			continue
		}
		j := Job{Kind: Delete, Group: groupOf(b, m.policy.ReplicaLabels), Resolution: b.Resolution(), Reason: "marked for deletion"}
		if d := m.view.Deletion[id].Details; d != "" {
			j.Reason += ": " + d
		}
		m.add(j, b)
	}
}

// markPrecision is how much older than it is a mark may look: its time is cut to whole
// seconds, and so is the time of an object, which is the clock, in many buckets.
const markPrecision = 2 * time.Second

// DeletionDue says whether a mark that was written at written, zero if unknown, is certainly
// older than the delay. Both times are of the clock of the bucket.
func (p *Policy) DeletionDue(m *block.DeletionMark, written, now time.Time) bool {
	d := p.DeleteDelay
	if d > 0 {
		d += markPrecision
	}
	return now.Sub(m.Since(written)) >= d
}

func (m *maker) due(id ulid.ULID) bool {
	return m.policy.DeletionDue(m.view.Deletion[id], m.view.Marked[id], m.now)
}

func (m *maker) marked(id ulid.ULID) time.Duration {
	return m.now.Sub(m.view.Deletion[id].Since(m.view.Marked[id]))
}

// partials plans the deletion of directories without meta.json whose last write is
// older than partialDelay; a producer that still uploads writes more often. It skips
// a directory whose meta.json is damaged or of a later version, because the data in
// it may be the only copy.
func (m *maker) partials() {
	for _, id := range sortedIDs(m.view.Partial) {
		if m.view.Deletion[id] != nil {
			if m.due(id) {
				m.partial(id, "deletion was interrupted")
			}
			continue
		}
		p := m.view.Partial[id]
		if p.Reason != reason.BlockMetaMissing {
			m.plan.Skipped = append(m.plan.Skipped, Skip{Block: id, Details: fmt.Sprintf("its meta.json cannot be used: %s", p.Reason), Reason: p.Reason})
			continue
		}
		last := p.LastModified
		if last.IsZero() {
			last = ulid.Time(id.Time())
		}
		if age := m.now.Sub(last); age > partialDelay {
			m.partial(id, fmt.Sprintf("no meta.json, and nothing written for %s", span(age)))
		}
	}
}

func (m *maker) partial(id ulid.ULID, why string) {
	m.used[id] = true
	m.plan.Jobs = append(m.plan.Jobs, Job{Kind: CleanPartial, Blocks: []ulid.ULID{id}, Reason: why})
}
