package plan

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// maxBacklogRounds bounds the plans that Backlog makes. A block passes through one plan
// for each range and resolution; the rest is for overlaps.
const maxBacklogRounds = 16

// Work is a number of jobs with their inputs. An input of several jobs counts once for
// each of them.
type Work struct {
	Jobs, Blocks int
	Samples      uint64
}

// Add adds other work.
func (w *Work) Add(o Work) {
	w.Jobs, w.Blocks, w.Samples = w.Jobs+o.Jobs, w.Blocks+o.Blocks, w.Samples+o.Samples
}

// GroupBacklog is the work that remains in one group until nothing is left to plan.
// The first plan contains only a part of it: results are inputs of later plans.
type GroupBacklog struct {
	// Group is the name of the group.
	Group             string
	Merge, Downsample Work
}

// Total is the sum of both kinds.
func (g *GroupBacklog) Total() Work {
	w := g.Merge
	w.Add(g.Downsample)
	return w
}

// Backlog returns the groups that have work, those with the most samples first. It
// carries out plans on metas alone, with estimates for the samples of the results.
func Backlog(v View, p Policy, now time.Time) []GroupBacklog {
	s := &rehearsal{view: v, now: now, groups: map[string]*GroupBacklog{}}
	s.view.Metas, s.view.Rewrites = maps.Clone(v.Metas), maps.Clone(v.Rewrites)
	for range maxBacklogRounds {
		pl := jobsFor(s.view, p, now)
		worked := false
		for i := range pl.Jobs {
			worked = s.do(&pl.Jobs[i]) || worked
		}
		if !worked {
			break
		}
	}
	out := make([]GroupBacklog, 0, len(s.groups))
	for _, g := range s.groups {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b GroupBacklog) int {
		return cmp.Or(cmp.Compare(b.Total().Samples, a.Total().Samples), cmp.Compare(a.Group, b.Group))
	})
	return out
}

// rehearsal carries out jobs on metas.
type rehearsal struct {
	view   View
	now    time.Time
	next   uint64
	last   ulid.ULID // the last result
	groups map[string]*GroupBacklog
}

// do carries out a job and says whether it changed what is left to merge or downsample.
func (s *rehearsal) do(j *Job) bool {
	switch j.Kind {
	case Delete, MarkDeletion:
		delete(s.view.Metas, j.Blocks[0])
		return false
	case Rewrite:
		// The block is as large afterwards, or smaller. Then it can be merged.
		delete(s.view.Rewrites, j.Blocks[0])
		return true
	case Merge, Downsample:
	default:
		return false
	}
	inputs := make([]*block.Meta, 0, len(j.Blocks))
	w := Work{Jobs: 1, Blocks: len(j.Blocks)}
	for _, id := range j.Blocks {
		inputs = append(inputs, s.view.Metas[id])
		w.Samples += Samples(s.view.Metas[id])
	}
	name := j.Group.String()
	g := s.groups[name]
	if g == nil {
		g = &GroupBacklog{Group: name}
		s.groups[name] = g
	}
	if j.Kind == Downsample {
		g.Downsample.Add(w)
	} else {
		g.Merge.Add(w)
		for _, id := range j.Blocks {
			delete(s.view.Metas, id)
		}
	}
	out := s.result(j, inputs)
	s.view.Metas[out.ULID], s.last = out, out.ULID
	return true
}

// result is the estimated meta of the block that a job makes.
func (s *rehearsal) result(j *Job, inputs []*block.Meta) *block.Meta {
	m := &block.Meta{}
	s.next++
	_ = m.ULID.SetTime(ulid.Timestamp(s.now))
	binary.BigEndian.PutUint64(m.ULID[8:], s.next)
	m.MinTime, m.MaxTime = j.MinTime, j.MaxTime
	m.Thanos.Source = block.SourceCompactor
	m.Thanos.Downsample.Resolution = j.Resolution
	m.Thanos.Labels = j.Group.Labels.Map()
	var length int64 // of all inputs
	for _, in := range inputs {
		m.Compaction.Sources = append(m.Compaction.Sources, in.Compaction.Sources...)
		m.Stats.NumSamples += Samples(in)
		m.Stats.NumSeries = max(m.Stats.NumSeries, in.Stats.NumSeries)
		length += in.MaxTime - in.MinTime
	}
	if j.Kind == Downsample {
		m.Thanos.Labels = inputs[0].Thanos.Labels
		// At most one sample for each series and window.
		windows := float64(j.MaxTime-j.MinTime)/float64(j.Resolution) + 1
		m.Stats.NumSamples = uint64(min(float64(m.Stats.NumSamples), float64(m.Stats.NumSeries)*windows))
		return m
	}
	slices.SortFunc(m.Compaction.Sources, ulid.ULID.Compare)
	m.Compaction.Sources = slices.Compact(m.Compaction.Sources)
	if whole := j.MaxTime - j.MinTime; j.Vertical && length > whole {
		// Overlapping blocks are mostly replicas: the result is as dense as one of them.
		m.Stats.NumSamples = uint64(float64(m.Stats.NumSamples) * float64(whole) / float64(length))
	}
	return m
}

// maxSamples bounds the number of samples of a block, because the one in a meta.json may
// be any number, and sums must not overflow.
const maxSamples = 1 << 46

// Samples is the number of samples of a block by its meta.json, at most 2^46.
func Samples(m *block.Meta) uint64 { return min(m.Stats.NumSamples, maxSamples) }

// inflowWindow is the time over which Inflow averages.
const inflowWindow = 24 * time.Hour

// Inflow estimates the raw samples per second that producers upload, from the last 24
// hours of data: the larger one of the samples in blocks of producers, which are there
// until the delay of their deletion has passed, and those in blocks that are live.
func Inflow(v View, p Policy, now time.Time) float64 {
	m := &maker{view: v, policy: p, now: now}
	var end int64
	usable := func(b *block.Meta) bool {
		why, _ := m.invalid(b)
		return why == "" && b.Resolution() == block.ResolutionRaw && b.MaxTime <= now.Add(maxAhead).UnixMilli() && m.owns(b)
	}
	for _, b := range v.Metas {
		if usable(b) {
			end = max(end, b.MaxTime)
		}
	}
	// A bucket that gets no more data has no inflow.
	if end < now.Add(-inflowWindow).UnixMilli() {
		return 0
	}
	start := end - inflowWindow.Milliseconds()
	var produced, live float64
	for id, b := range v.Metas {
		if !usable(b) || b.MaxTime <= start {
			continue
		}
		n := float64(Samples(b)) * float64(b.MaxTime-max(b.MinTime, start)) / float64(b.MaxTime-b.MinTime)
		if len(b.Compaction.Sources) == 1 && b.Compaction.Sources[0] == id {
			produced += n
		}
		if v.Deletion[id] == nil {
			live += n
		}
	}
	return max(produced, live) / inflowWindow.Seconds()
}
