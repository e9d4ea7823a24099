package store

import (
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
)

// filters decide which blocks of the bucket are served.
func (c *Config) filters(now time.Time, selector []*relabel.Config, broken map[ulid.ULID]struct{}) []blocklist.Filter {
	maxt := c.MaxTime.Millis(now)
	if c.MaxTime.Relative() {
		// Blocks that come into the range before the next listing. The gateway of later
		// times leaves them to this one then.
		maxt += (2 * c.SyncInterval).Milliseconds()
	}
	fs := []blocklist.Filter{
		blocklist.TimePartition(c.MinTime.Millis(now), maxt),
		blocklist.Shard(selector),
	}
	if d := c.ConsistencyDelay.Duration(); d > 0 {
		// Without a delay, blocks of producers whose clocks are ahead are served.
		fs = append(fs, blocklist.ConsistencyDelay(d))
	}
	return append(fs,
		blocklist.DeletionMarkDelay(c.IgnoreDeletionMarksDelay.Duration()),
		damaged(broken),
		blocklist.Duplicates(),
		blocklist.Superseded(),
	)
}

// damaged drops broken blocks that other blocks replace: those that they were made
// of, while these still exist. A broken block without replacement stays, so that
// answers name the missing data.
func damaged(broken map[ulid.ULID]struct{}) blocklist.Filter {
	return blocklist.Filter{Name: "damaged", Drop: func(v *blocklist.View) []ulid.ULID {
		var out []ulid.ULID
		for id := range broken {
			if m := v.Metas[id]; m != nil && replaceable(m, v, broken) {
				out = append(out, id)
			}
		}
		return out
	}}
}

// replaceable says whether all sources of m are in sound blocks of the same
// resolution. Their labels do not matter, because merged replicas had others.
func replaceable(m *block.Meta, v *blocklist.View, broken map[ulid.ULID]struct{}) bool {
	have := map[ulid.ULID]struct{}{}
	for id, other := range v.Metas {
		if _, bad := broken[id]; bad || other.Resolution() != m.Resolution() {
			continue
		}
		for _, s := range other.Compaction.Sources {
			have[s] = struct{}{}
		}
	}
	return !slices.ContainsFunc(m.Compaction.Sources, func(s ulid.ULID) bool {
		_, ok := have[s]
		return !ok
	})
}

// selectorLabels are the labels that selectors of blocks match: the external labels
// and the id of the block.
func selectorLabels(m *block.Meta) labels.Labels {
	b := labels.NewBuilder(m.ExternalLabels())
	b.Set(blocklist.BlockIDLabel, m.ULID.String())
	return b.Labels()
}
