package plan_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

// TestRetention_KeepsWhatThePolicyPromises carries out plans on random buckets with random
// retentions while months pass. At any time each sample that a resolution still keeps is in
// a block of that resolution, or in one of a finer resolution of which it will be made.
// Some blocks are excluded for a time, jobs are interrupted or not reached, and no block is
// downsampled while it overlaps another one of its producer.
func TestRetention_KeepsWhatThePolicyPromises(t *testing.T) {
	marked := 0
	for seed := range uint64(10) {
		marked += keepPromises(t, seed)
	}
	require.Greater(t, marked, 50, "data has to go out of retention")
}

const day = 24 * time.Hour

// randomRetention has resolutions in any relation; 0 is for ever.
func randomRetention(r *rand.Rand) map[int64]time.Duration {
	one := func(least, most int) time.Duration {
		if r.IntN(4) == 0 {
			return 0
		}
		return time.Duration(least+r.IntN(most-least)) * day
	}
	return map[int64]time.Duration{block.ResolutionRaw: one(2, 40), block.Resolution5m: one(10, 60), block.Resolution1h: one(1, 90)}
}

// randomBlocks is 20 days of two replicas, of which some overlap.
func (s *simulation) randomBlocks() {
	for h := int64(0); h < 20*24; h += 2 {
		for _, replica := range []string{"a", "b"} {
			if s.r.IntN(20) == 0 {
				continue
			}
			s.fresh(h, h+2, replica)
			if s.r.IntN(60) == 0 {
				s.fresh(h, h+1+s.r.Int64N(4), replica)
			}
		}
	}
}

// keepPromises returns how many blocks went out of retention.
func keepPromises(t *testing.T, seed uint64) (marked int) {
	s := &simulation{
		bucket: newBucket(), r: rand.New(rand.NewPCG(seed, 4)), now: time.UnixMilli(0).Add(21 * day),
		content: map[ulid.ULID]map[ulid.ULID]uint16{}, shards: seed%4 == 1,
	}
	p := plan.Policy{Ranges: plan.Ranges(), Downsampling: true, DeleteDelay: time.Hour, Retention: randomRetention(s.r)}
	if seed%2 == 0 {
		p.ReplicaLabels = []string{"replica"}
	}
	require.NoError(t, p.Validate(), "seed %d", seed)
	s.randomBlocks()
	ends := map[ulid.ULID]time.Time{}
	for id, m := range s.bucket.view.Metas {
		ends[id] = time.UnixMilli(m.MaxTime)
	}
	for range 90 {
		s.bucket.view.SkippedInPass = map[ulid.ULID]string{}
		for _, id := range slices.SortedFunc(maps.Keys(s.bucket.view.Metas), ulid.ULID.Compare) {
			if s.r.IntN(50) == 0 {
				s.bucket.view.SkippedInPass[id] = "a job on it failed"
			}
		}
		jobs := plan.Make(s.bucket.view, p, s.now).Jobs
		s.r.Shuffle(len(jobs), func(i, k int) { jobs[i], jobs[k] = jobs[k], jobs[i] })
		for _, j := range jobs {
			if s.r.IntN(8) == 0 {
				continue // not reached
			}
			if j.Kind == plan.MarkDeletion && j.Overdue > 0 {
				marked++
			}
			s.do(t, j)
		}
		held := s.held()
		for src, end := range ends {
			parts := uint16(0)
			for _, r := range []int64{block.ResolutionRaw, block.Resolution5m, block.Resolution1h} {
				parts |= held[r][src]
				if keep := p.Retention[r]; keep == 0 || s.now.Sub(end) <= keep {
					require.EqualValues(t, allParts, parts, "seed %d: the policy %v keeps data of resolution %d for %s, which ended %s ago: it is gone", seed, p.Retention, r, src, s.now.Sub(end))
				}
			}
		}
		s.now = s.now.Add(time.Duration(s.r.IntN(30)) * time.Hour)
	}
	return marked
}

// TestDownsampling_WaitsForTheMergeOfOverlappingBlocks has two blocks of one producer that
// overlap and that this pass cannot merge. Neither is downsampled, and both stay when they
// are out of retention.
func TestDownsampling_WaitsForTheMergeOfOverlappingBlocks(t *testing.T) {
	for _, marked := range []bool{false, true} {
		s := &simulation{bucket: newBucket(), now: time.UnixMilli(0).Add(100 * day), content: map[ulid.ULID]map[ulid.ULID]uint16{}}
		s.fresh(0, 48, "a")
		s.fresh(40, 90, "a")
		ids := slices.SortedFunc(maps.Keys(s.bucket.view.Metas), ulid.ULID.Compare)
		if marked {
			s.bucket.view.NoCompact = map[ulid.ULID]*block.NoCompactMark{ids[0]: {}}
		} else {
			s.bucket.view.SkippedInPass = map[ulid.ULID]string{ids[0]: "a job on it failed"}
		}
		for _, retention := range []time.Duration{0, 10 * day} {
			p := plan.Policy{Ranges: plan.Ranges(), Downsampling: true, Retention: map[int64]time.Duration{block.ResolutionRaw: retention}}
			pl := plan.Make(s.bucket.view, p, s.now)
			require.Empty(t, pl.Jobs, "marked %t, retention %s", marked, retention)
			require.Contains(t, pl.Skipped[len(pl.Skipped)-1].Details, "has to be merged", "marked %t, retention %s", marked, retention)
		}
	}
}
