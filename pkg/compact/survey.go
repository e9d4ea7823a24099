package compact

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/blockscan"
	"github.com/hindsight-io/hindsight/pkg/chunkmask"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/deletion"
)

// survey knows which blocks hold samples that have to be removed: those of deletion
// requests, and series that a retention rule does not keep. It reads the index of a
// block once for each request that may apply to it.
type survey struct {
	c         *Compactor
	deletions *deletion.Poller

	mu sync.Mutex // one run at a time
	// blocks are those that were looked at.
	blocks map[ulid.ULID]*surveyed
	last   atomic.Pointer[findings]
}

// surveyed is what is known of a block.
type surveyed struct {
	// requests says whether the block has samples of a request.
	requests map[ulid.ULID]bool
	// rules are the expired rules for which removal was counted.
	rules   string
	removal RuleRemoval
}

// findings are the result of a survey.
type findings struct {
	// rewrites are the blocks to rewrite, with the reason.
	rewrites map[ulid.ULID]string
	// expired are the series out of retention in them.
	expired map[ulid.ULID]*plan.ExpiredSeries
	// left counts the blocks with samples of each request, those that are marked for
	// deletion included.
	left map[ulid.ULID]int
	// incomplete says that some blocks could not be looked at.
	incomplete bool
	entries    []*deletion.Entry
}

// surveyConcurrency bounds the indexes that are read at one time.
const surveyConcurrency = 4

// run looks at the blocks of a view. When another run is under way it returns the
// findings of the last one. Blocks that cannot be read are logged, and looked at again
// by the next run.
func (s *survey) run(ctx context.Context, v *blocklist.View, pv plan.View, policy plan.Policy, now time.Time) *findings {
	if !s.mu.TryLock() {
		if f := s.last.Load(); f != nil {
			return f
		}
		return &findings{}
	}
	defer s.mu.Unlock()
	f := &findings{rewrites: map[ulid.ULID]string{}, expired: plan.SeriesOutOfRetention(pv, policy, now), left: map[ulid.ULID]int{}}
	if _, err := s.deletions.Poll(ctx); err != nil {
		s.c.log.Error("deletion requests cannot be read; those that are known stay in use", "err", err)
		f.incomplete = true
	}
	f.entries = slices.DeleteFunc(slices.Clone(s.deletions.Entries()), func(e *deletion.Entry) bool { return !e.Physical(now) })
	for id := range s.blocks {
		if v.Metas[id] == nil {
			delete(s.blocks, id)
		}
	}
	var (
		g  errgroup.Group
		mu sync.Mutex
	)
	g.SetLimit(surveyConcurrency)
	for id, m := range v.Metas {
		if s.blocks[id] == nil {
			s.blocks[id] = &surveyed{requests: map[ulid.ULID]bool{}}
		}
		b, size := s.blocks[id], v.Sizes[id][block.IndexFile]
		g.Go(func() error {
			err := s.look(ctx, m, size, b, f)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				f.incomplete = true
				if ctx.Err() == nil {
					s.c.log.Warn("index of block cannot be searched for deleted series", "block", id, "err", err)
				}
			}
			f.add(m, b, v)
			return nil
		})
	}
	_ = g.Wait() // no error
	s.last.Store(f)
	return f
}

// look completes what is known of a block.
func (s *survey) look(ctx context.Context, m *block.Meta, size int64, b *surveyed, f *findings) error {
	var unknown []*deletion.Compiled
	for _, e := range f.entries {
		if _, ok := b.requests[e.ID]; !ok {
			unknown = append(unknown, e.Compiled)
		}
	}
	if err := s.search(ctx, m, size, b, unknown); err != nil {
		return err
	}
	e := f.expired[m.ULID]
	if e == nil {
		return nil
	}
	if rules := e.Rules(); b.rules != rules {
		removal, err := RemovedByRules(ctx, s.c.bkt, m, size, e)
		if err != nil {
			return err
		}
		b.rules, b.removal = rules, removal
	}
	return nil
}

// search finds out which of the requests the block has samples of: first of any of
// them, because most blocks have none.
func (s *survey) search(ctx context.Context, m *block.Meta, size int64, b *surveyed, requests []*deletion.Compiled) error {
	scope := deletion.NewSet(requests...).For(targetOf(m))
	if scope == nil {
		for _, r := range requests {
			b.requests[r.ID] = false
		}
		return nil
	}
	res, err := blockscan.Scan(ctx, s.c.bkt, m, size, blockscan.Query{Matchers: scope.Matchers(), Deleted: deletedIn(scope, m), Any: true})
	switch {
	case err != nil:
		return err
	case res.Series == 0 || len(requests) == 1:
		for _, r := range requests {
			b.requests[r.ID] = res.Series > 0
		}
		return nil
	}
	half := len(requests) / 2
	if err := s.search(ctx, m, size, b, requests[:half]); err != nil {
		return err
	}
	return s.search(ctx, m, size, b, requests[half:])
}

// add enters one block into the findings.
func (f *findings) add(m *block.Meta, b *surveyed, v *blocklist.View) {
	var why []string
	for _, e := range f.entries {
		if b.requests[e.ID] {
			f.left[e.ID]++
			if len(why) < 3 {
				why = append(why, "samples of deletion request "+e.ID.String())
			}
		}
	}
	if e := f.expired[m.ULID]; e != nil && (b.removal.Share >= MinExpiredShare || len(why) > 0 && b.removal.Share > 0) {
		bytes := v.Bytes(m.ULID)
		why = append(why, fmt.Sprintf("%d of %d series out of retention by %s, about %d of %d bytes",
			b.removal.Series, m.Stats.NumSeries, e.Rules(), int64(b.removal.Share*float64(bytes)), bytes))
	}
	if len(why) > 0 && v.Deletion[m.ULID] == nil {
		f.rewrites[m.ULID] = "it has " + strings.Join(why, ", and ")
	}
}

// clean records that a block has no sample of the requests, and no expired series, as a
// rewrite has found.
func (s *survey) clean(id ulid.ULID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.blocks[id]
	if b == nil {
		return
	}
	for r := range b.requests {
		b.requests[r] = false
	}
	b.removal = RuleRemoval{}
}

// targetOf is a block as deletions see it. A window of downsampled data goes with any
// deleted sample in it.
func targetOf(m *block.Meta) deletion.Target {
	res := m.Resolution()
	return deletion.Target{External: m.ExternalLabels(), MinTime: m.MinTime - res, MaxTime: m.MaxTime + res}
}

func deletedIn(scope *deletion.Scope, m *block.Meta) func(labels.Labels) tombstones.Intervals {
	return func(l labels.Labels) tombstones.Intervals { return chunkmask.Widen(scope.Deleted(l), m.Resolution()) }
}

// finish records which requests have no copy left in the bucket.
func (s *survey) finish(ctx context.Context, now time.Time) {
	f := s.last.Load()
	if f == nil {
		return
	}
	open := 0
	for _, e := range f.entries {
		if e.Done {
			continue
		}
		if n := f.left[e.ID]; n > 0 || f.incomplete {
			open++
			continue
		}
		if err := deletion.MarkDone(ctx, s.c.bkt, e.ID, "no block of the bucket has samples of the request", now); err != nil {
			s.c.log.Warn("end of a deletion not recorded", "request", e.ID, "err", err)
			continue
		}
		s.c.log.Info("deletion complete in the bucket", "request", e.ID)
	}
	s.c.metrics.deletionsOpen.Set(float64(open))
}
