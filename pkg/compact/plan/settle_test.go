package plan_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

// simulation is a bucket in which jobs are carried out on metas alone. Every fresh
// block is its own source, so sources represent samples.
type simulation struct {
	bucket *bucket
	r      *rand.Rand
	next   uint64
	now    time.Time
	// content has the parts of each source that a block has: a shard of n has those
	// whose number modulo n is its index.
	content map[ulid.ULID]map[ulid.ULID]uint16
	// shards lets merges split their results.
	shards bool
}

// allParts is the content of a block that is no shard; 12 is divided by 2, 3 and 4.
const allParts = 1<<12 - 1

func (s *simulation) newID() (id ulid.ULID) {
	s.next++
	_ = id.SetTime(uint64(s.now.UnixMilli()))
	id[14], id[15] = byte(s.next>>8), byte(s.next)
	return id
}

func (s *simulation) fresh(from, to int64, replica string) {
	m := &block.Meta{}
	m.ULID = s.newID()
	m.MinTime, m.MaxTime = from*time.Hour.Milliseconds(), to*time.Hour.Milliseconds()
	m.Compaction.Sources = []ulid.ULID{m.ULID}
	m.Thanos.Labels = map[string]string{"cluster": "eu", "replica": replica}
	s.bucket.view.Metas[m.ULID] = m
	s.content[m.ULID] = map[ulid.ULID]uint16{m.ULID: allParts}
}

// publish adds the result of a job, and says whether it was not interrupted.
func (s *simulation) publish(out *block.Meta, content map[ulid.ULID]uint16) bool {
	n := 1
	if s.shards && s.r.IntN(2) == 0 {
		n = 2 + s.r.IntN(3)
	}
	if n == 1 {
		s.bucket.view.Metas[out.ULID], s.content[out.ULID] = out, content
		return true
	}
	set := s.newID()
	for i := range n {
		if s.r.IntN(10) == 0 {
			return false
		}
		m := out.Clone()
		m.ULID = s.newID()
		m.SetShard(block.Shard{Set: set, Index: i, Count: n})
		part := map[ulid.ULID]uint16{}
		for src, parts := range content {
			for p := range 12 {
				if p%n == i {
					part[src] |= parts & (1 << p)
				}
			}
		}
		s.bucket.view.Metas[m.ULID], s.content[m.ULID] = m, part
	}
	return true
}

func (s *simulation) do(t *testing.T, j plan.Job) {
	v := s.bucket.view
	switch j.Kind {
	case plan.Delete:
		delete(v.Metas, j.Blocks[0])
		delete(v.Deletion, j.Blocks[0])
	case plan.MarkDeletion:
		v.Deletion[j.Blocks[0]] = &block.DeletionMark{DeletionTime: s.now.Unix()}
	case plan.Merge, plan.Downsample:
		out := &block.Meta{}
		out.ULID = s.newID()
		out.MinTime, out.MaxTime = j.MinTime, j.MaxTime
		out.Thanos.Source = block.SourceCompactor
		out.Thanos.Labels = j.Group.Labels.Map()
		out.Thanos.Downsample.Resolution = j.Resolution
		for _, id := range j.Blocks {
			out.Compaction.Sources = append(out.Compaction.Sources, v.Metas[id].Compaction.Sources...)
		}
		slices.SortFunc(out.Compaction.Sources, ulid.ULID.Compare)
		out.Compaction.Sources = slices.Compact(out.Compaction.Sources)
		if j.Kind == plan.Downsample {
			s.requireAlone(t, v.Metas[j.Blocks[0]])
			out.Thanos.Labels = v.Metas[j.Blocks[0]].Thanos.Labels
			out.Thanos.Extensions = v.Metas[j.Blocks[0]].Thanos.Extensions
			v.Metas[out.ULID], s.content[out.ULID] = out, s.content[j.Blocks[0]]
			return
		}
		content := map[ulid.ULID]uint16{}
		for _, id := range j.Blocks {
			for src, parts := range s.content[id] {
				content[src] |= parts
			}
		}
		if !s.publish(out, content) {
			return
		}
		// A crash, or a division into shards, leaves the coarser block to a job of its own.
		if j.Downsample > 0 && v.Metas[out.ULID] == out && s.r.IntN(4) > 0 {
			s.requireAlone(t, out)
			c := out.Clone()
			c.ULID, c.Thanos.Downsample.Resolution = s.newID(), j.Downsample
			v.Metas[c.ULID], s.content[c.ULID] = c, content
		}
		for _, id := range j.Blocks {
			// A crash between upload and mark leaves inputs behind.
			if s.r.IntN(4) > 0 {
				v.Deletion[id] = &block.DeletionMark{DeletionTime: s.now.Unix()}
			}
		}
	}
}

// requireAlone fails when the raw block overlaps another one of its producer: its
// downsampled block would lack samples.
func (s *simulation) requireAlone(t *testing.T, b *block.Meta) {
	if b.Resolution() != block.ResolutionRaw {
		return
	}
	for id, o := range s.bucket.view.Metas {
		if id == b.ULID || s.bucket.view.Deletion[id] != nil || o.Resolution() != block.ResolutionRaw {
			continue
		}
		if o.Shard().Set != (ulid.ULID{}) && o.Shard().Set == b.Shard().Set {
			continue
		}
		if o.MinTime < b.MaxTime && b.MinTime < o.MaxTime && o.ExternalLabels().String() == b.ExternalLabels().String() &&
			!within(o, b) && !within(b, o) {
			require.Fail(t, "a block is downsampled that overlaps another one", "%s and %s", b.ULID, id)
		}
	}
}

// within says whether all sources of a are among those of b: such blocks are
// left over from a merge.
func within(a, b *block.Meta) bool {
	return !slices.ContainsFunc(a.Compaction.Sources, func(id ulid.ULID) bool { return !slices.Contains(b.Compaction.Sources, id) })
}

// held returns the parts of the sources in blocks without a deletion mark, by
// resolution.
func (s *simulation) held() map[int64]map[ulid.ULID]uint16 {
	out := map[int64]map[ulid.ULID]uint16{}
	for id, m := range s.bucket.view.Metas {
		if s.bucket.view.Deletion[id] != nil {
			continue
		}
		if out[m.Resolution()] == nil {
			out[m.Resolution()] = map[ulid.ULID]uint16{}
		}
		for src, parts := range s.content[id] {
			out[m.Resolution()][src] |= parts
		}
	}
	return out
}

func settle(t *testing.T, seed uint64) {
	s := &simulation{bucket: newBucket(), r: rand.New(rand.NewPCG(seed, 1)), now: time.UnixMilli(0).Add(60 * 24 * time.Hour),
		content: map[ulid.ULID]map[ulid.ULID]uint16{}, shards: seed%4 == 1 || seed%4 == 2}
	p := plan.Policy{Ranges: plan.Ranges(), Downsampling: true, DeleteDelay: time.Hour, Retention: map[int64]time.Duration{}}
	if seed%2 == 0 {
		p.ReplicaLabels = []string{"replica"}
	}
	if seed%3 == 0 {
		p.Retention[block.ResolutionRaw] = 20 * 24 * time.Hour
	}
	var fresh []ulid.ULID
	for h := int64(0); h < 40*24; h += 2 {
		for _, replica := range []string{"a", "b"} {
			if s.r.IntN(20) == 0 {
				continue // late or lost
			}
			s.fresh(h, h+2, replica)
			if s.r.IntN(100) == 0 {
				s.fresh(h, h+1+s.r.Int64N(4), replica) // overlapping, as out-of-order data is
			}
		}
	}
	for id := range s.bucket.view.Metas {
		fresh = append(fresh, id)
	}
	for round := 0; ; round++ {
		require.Less(t, round, 80, "seed %d does not settle", seed)
		pl := plan.Make(s.bucket.view, p, s.now)
		touched := map[ulid.ULID]bool{}
		for _, j := range pl.Jobs {
			for _, id := range j.Blocks {
				require.False(t, touched[id], "seed %d: two jobs touch a block", seed)
				touched[id] = true
			}
		}
		if len(pl.Jobs) == 0 && len(s.bucket.view.Deletion) == 0 {
			break
		}
		s.r.Shuffle(len(pl.Jobs), func(i, k int) { pl.Jobs[i], pl.Jobs[k] = pl.Jobs[k], pl.Jobs[i] })
		for _, j := range pl.Jobs {
			if s.r.IntN(10) > 0 { // the others were not reached
				s.do(t, j)
			}
		}
		s.now = s.now.Add(30 * time.Minute)
		held := s.held()
		for _, src := range fresh {
			require.EqualValues(t, allParts, held[0][src]|held[block.Resolution5m][src], "seed %d: data of %s is lost", seed, src)
		}
	}
	for id, m := range s.bucket.view.Metas {
		span := time.Duration(m.MaxTime-m.MinTime) * time.Millisecond
		require.LessOrEqual(t, span, 14*24*time.Hour, "seed %d: %s", seed, id)
	}
}
