package plan

import (
	"maps"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// combine finds the merges of raw blocks whose results would be downsampled by the next
// plan: it carries out all jobs on metas and makes that plan. Such a merge can do both
// in one pass over the samples. A job that fails changes nothing about that: the coarser
// data is made a little earlier than by itself.
func combine(v View, p Policy, now time.Time, pl *Plan) {
	if !p.Downsampling || !anyLongMerge(pl.Jobs) {
		return
	}
	s := &rehearsal{view: v, now: now, groups: map[string]*GroupBacklog{}}
	s.view.Metas, s.view.Rewrites = maps.Clone(v.Metas), maps.Clone(v.Rewrites)
	results := map[ulid.ULID]*Job{}
	for i := range pl.Jobs {
		j := &pl.Jobs[i]
		if s.do(j) && j.Kind == Merge {
			results[s.last] = j
		}
	}
	next := jobsFor(s.view, p, now)
	for _, n := range next.Jobs {
		if j := results[n.Blocks[0]]; j != nil && n.Kind == Downsample && j.Resolution == block.ResolutionRaw {
			j.Downsample = n.Resolution
		}
	}
}

// anyLongMerge says whether a merge may have a result that is long enough to be
// downsampled. Most plans have none, and need no second one.
func anyLongMerge(jobs []Job) bool {
	for i := range jobs {
		j := &jobs[i]
		if j.Kind == Merge && j.Resolution == block.ResolutionRaw && millis(j.MaxTime-j.MinTime) >= downsampleRange5m {
			return true
		}
	}
	return false
}
