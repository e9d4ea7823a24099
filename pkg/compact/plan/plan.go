package plan

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// Make makes a plan. now is the time of the bucket, by which ages are measured.
func Make(v View, p Policy, now time.Time) Plan {
	pl := jobsFor(v, p, now)
	combine(v, p, now, &pl)
	return pl
}

// jobsFor makes a plan in which each job has one result.
func jobsFor(v View, p Policy, now time.Time) Plan {
	m := newMaker(v, p, now)
	m.deletions()
	m.partials()

	live := m.live()
	m.collectShards(live)
	superseded := m.garbage(live)
	live = remove(live, superseded)
	m.coverage(live)
	m.retention(live)
	live = remove(live, m.used)
	ready := m.ready(live)
	m.rewrites(ready)
	for _, g := range groupBlocks(ready, p.ReplicaLabels) {
		if g.Labels.IsEmpty() {
			// Its results could not be published.
			for _, b := range g.blocks {
				m.skip(b, "it has no external labels")
			}
			continue
		}
		before := len(m.plan.Jobs)
		m.merges(g)
		// While blocks of the group are merged, downsampling would make blocks that
		// those of the merged blocks replace.
		if !slices.ContainsFunc(m.plan.Jobs[before:], func(j Job) bool { return j.Kind == Merge }) {
			m.downsampling(g.blocks)
		}
	}

	slices.SortStableFunc(m.plan.Jobs, func(a, b Job) int { return cmp.Compare(rank(a.Kind), rank(b.Kind)) })
	slices.SortStableFunc(m.plan.Skipped, func(a, b Skip) int { return bytes.Compare(a.Block[:], b.Block[:]) })
	return m.plan
}

func rank(k Kind) int {
	return slices.Index([]Kind{Delete, CleanPartial, MarkDeletion, Rewrite, Merge, Downsample}, k)
}

// maker is one run of Make.
type maker struct {
	view   View
	policy Policy
	now    time.Time
	plan   Plan
	// used are the blocks of the jobs of this plan.
	used map[ulid.ULID]bool
	// covered are the level-1 ancestors that each holder has data of.
	covered map[holder]map[ulid.ULID]bool
	// coarse are the downsampled blocks by source.
	coarse map[ulid.ULID][]*block.Meta
	sets   map[ulid.ULID]map[ulid.ULID]bool // see sourceSet
	// waiting is the result of unmerged.
	waiting map[ulid.ULID]string
	shards  map[setKey]*shardSet
}

func newMaker(v View, p Policy, now time.Time) *maker {
	return &maker{view: v, policy: p, now: now, used: map[ulid.ULID]bool{}, sets: map[ulid.ULID]map[ulid.ULID]bool{}}
}

// add adds a job on blocks to the plan.
func (m *maker) add(j Job, blocks ...*block.Meta) {
	for i, b := range blocks {
		m.used[b.ULID] = true
		j.Blocks = append(j.Blocks, b.ULID)
		if i == 0 {
			j.MinTime, j.MaxTime = b.MinTime, b.MaxTime
		}
		j.MinTime, j.MaxTime = min(j.MinTime, b.MinTime), max(j.MaxTime, b.MaxTime)
	}
	m.plan.Jobs = append(m.plan.Jobs, j)
}

// skip reports a block that no job of this plan takes.
func (m *maker) skip(b *block.Meta, format string, args ...any) {
	m.plan.Skipped = append(m.plan.Skipped, Skip{Block: b.ULID, Details: fmt.Sprintf(format, args...)})
}

func (m *maker) owns(b *block.Meta) bool { return m.policy.Owns == nil || m.policy.Owns(b) }

// live are the blocks that are not marked for deletion, oldest first.
func (m *maker) live() []*block.Meta {
	var out []*block.Meta
	for id, b := range m.view.Metas {
		if m.view.Deletion[id] == nil {
			out = append(out, b)
		}
	}
	slices.SortFunc(out, byMinTime)
	return out
}

// ready are the blocks that can be worked on.
func (m *maker) ready(live []*block.Meta) []*block.Meta {
	var out []*block.Meta
	for _, b := range live {
		if !m.owns(b) {
			continue
		}
		if why, details := m.invalid(b); why != "" {
			m.skipInvalid(b, why, details)
			continue
		}
		if reason, ok := m.view.Quarantined[b.ULID]; ok {
			m.skip(b, "quarantined: %s", reason)
		}
		if reason, ok := m.view.SkippedInPass[b.ULID]; ok {
			m.skip(b, "skipped in this pass: %s", reason)
		}
		if m.now.Sub(m.uploaded(b)) < m.policy.ConsistencyDelay && fresh(b) {
			m.skip(b, "younger than the consistency delay of %s", span(m.policy.ConsistencyDelay))
			continue
		}
		if why := m.unusableShard(b); why != "" {
			m.skip(b, "%s", why)
		}
		out = append(out, b)
	}
	return out
}

// fresh says whether the block comes from a producer whose uploads may not be
// visible everywhere yet. Results of compaction are published complete.
func fresh(b *block.Meta) bool {
	switch b.Thanos.Source {
	case block.SourceCompactor, block.SourceCompactorRepair, block.SourceBucketRepair:
		return false
	}
	return true
}

// uploaded is the time at which the block became visible. The clock of the producer, if it is
// ahead, would hold the block back until that time, for years if need be.
func (m *maker) uploaded(b *block.Meta) time.Time {
	if at, ok := m.view.Published[b.ULID]; ok {
		return at
	}
	if !b.Thanos.UploadTime.IsZero() {
		return b.Thanos.UploadTime
	}
	return ulid.Time(b.ULID.Time())
}

// excluded says whether a block must not be merged. It splits its window, so that no
// merged block spans it.
func (m *maker) excluded(b *block.Meta) bool {
	_, bad := m.view.Quarantined[b.ULID]
	return bad || m.view.NoCompact[b.ULID] != nil || m.unusableShard(b) != ""
}

func remove(blocks []*block.Meta, ids map[ulid.ULID]bool) []*block.Meta {
	return slices.DeleteFunc(slices.Clone(blocks), func(b *block.Meta) bool { return ids[b.ULID] })
}

// sortedIDs returns the keys of a map in order.
func sortedIDs[V any](m map[ulid.ULID]V) []ulid.ULID {
	ids := make([]ulid.ULID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, ulid.ULID.Compare)
	return ids
}
