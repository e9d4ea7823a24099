package store

import (
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// pruned counts the blocks of the gateway that are not among those chosen for a request,
// if the request wants statistics.
func (g *Gateway) pruned(r *storeapi.Request, chosen []blockRequest) (st storeapi.Stats) {
	if !r.WantStats {
		return st
	}
	used := make(map[ulid.ULID]bool, len(chosen))
	for i := range chosen {
		used[chosen[i].block.Meta().ULID] = true
	}
	now := time.Now()
	mint, maxt := max(r.MinTime, g.cfg.MinTime.Millis(now)), min(r.MaxTime, g.cfg.MaxTime.Millis(now))
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, group := range g.blocks.groups {
		_, matches := storeapi.MatchExternal(group.labels, r.Matchers)
		for _, m := range group.metas {
			switch {
			case used[m.ULID]:
			case mint > maxt || !m.Overlaps(mint, maxt):
				st.BlocksOtherTimes++
			case !matches || !matchBlock(r.BlockMatchers, selectorLabels(m)):
				st.BlocksOtherLabels++
			case g.damage.reason(m.ULID, now) == "":
				st.BlocksOtherResolutions++
			}
		}
	}
	return st
}

// prunedSet is an answer without blocks, with the statistics of the choice.
type prunedSet struct {
	storeapi.SeriesSet
	stats storeapi.Stats
}

// Stats implements storeapi.SeriesSet.
func (s prunedSet) Stats() storeapi.Stats { return s.stats }
