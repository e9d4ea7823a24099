package plan_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// hours makes a sound block of the group under test.
func hours(b *bucket, name string, from, to int64) *block.Meta {
	const hour = 3_600_000
	m := &block.Meta{}
	m.ULID = b.id(name)
	m.MinTime, m.MaxTime = from*hour, to*hour
	m.Compaction.Sources = []ulid.ULID{m.ULID}
	m.Stats.NumSamples = 1
	m.Thanos.Labels = map[string]string{"cluster": "eu"}
	m.Thanos.Source = block.SourceCompactor
	b.view.Metas[m.ULID] = m
	return m
}

// One block of a group with a window to merge has an invalid meta.json. The window is
// merged without it, and retention skips the block.
func TestMake_SkipsInvalidBlock(t *testing.T) {
	day := time.Hour * 24
	now := time.UnixMilli(0).Add(100 * day)
	for _, c := range []struct {
		name   string
		reason reason.Reason
		change func(*block.Meta)
	}{
		{"years", reason.TimeRangeTooLong, func(m *block.Meta) { m.MinTime, m.MaxTime = 0, (90 * day).Milliseconds() }},
		{"years before all", reason.TimeRangeTooLong, func(m *block.Meta) {
			m.MinTime, m.MaxTime = -300*365*day.Milliseconds(), (99 * day).Milliseconds()
		}},
		{"all times", reason.TimesOutOfRange, func(m *block.Meta) { m.MinTime, m.MaxTime = math.MinInt64, math.MaxInt64 }},
		{"long ago", reason.TimesOutOfRange, func(m *block.Meta) { m.MinTime, m.MaxTime = math.MinInt64, math.MinInt64+1 }},
		{"far future", reason.TimesOutOfRange, func(m *block.Meta) { m.MinTime, m.MaxTime = math.MaxInt64-1, math.MaxInt64 }},
		{"future", reason.InTheFuture, func(m *block.Meta) { m.MinTime, m.MaxTime = (200 * day).Milliseconds(), (201 * day).Milliseconds() }},
		{"no length", reason.EmptyTimeRange, func(m *block.Meta) { m.MaxTime = m.MinTime }},
		{"backwards", reason.EmptyTimeRange, func(m *block.Meta) { m.MaxTime = m.MinTime - 1 }},
		{"resolution", reason.UnknownResolution, func(m *block.Meta) { m.Thanos.Downsample.Resolution = 12345 }},
	} {
		b := newBucket()
		for i, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
			hours(b, name, 2328+2*int64(i), 2330+2*int64(i)) // one 8 h window and three of four blocks of the next
		}
		invalid := hours(b, "invalid", 2330, 2332)
		c.change(invalid)
		p := plan.Make(b.view, plan.Policy{Ranges: plan.Ranges(), Downsampling: true,
			Retention: map[int64]time.Duration{block.ResolutionRaw: 50 * day}}, now)
		require.Equal(t, 1, len(p.Jobs), "%s: %s", c.name, b.print(p))
		require.Equal(t, plan.Merge, p.Jobs[0].Kind, c.name)
		require.Equal(t, []ulid.ULID{b.id("a"), b.id("b"), b.id("c"), b.id("d")}, p.Jobs[0].Blocks, c.name)
		i := slices.IndexFunc(p.Skipped, func(s plan.Skip) bool { return s.Block == invalid.ULID })
		require.GreaterOrEqual(t, i, 0, "%s: it is reported", c.name)
		require.Equal(t, c.reason, p.Skipped[i].Reason, c.name)
		require.NotEmpty(t, p.Skipped[i].Details, c.name)
	}
}

// jobs counts the jobs of a kind.
func jobs(p plan.Plan, k plan.Kind) (n int) {
	for _, j := range p.Jobs {
		if j.Kind == k {
			n++
		}
	}
	return n
}

// A chain of overlapping blocks over a year is cut into merges within the bound.
func TestMake_CutsLongRun(t *testing.T) {
	b := newBucket()
	for i := range int64(30) {
		hours(b, string(rune('a'+i)), 300*i, 300*i+336)
	}
	p := plan.Make(b.view, plan.Policy{Ranges: plan.Ranges()}, time.UnixMilli(0).Add(400*24*time.Hour))
	require.Greater(t, jobs(p, plan.Merge), 4)
	for _, j := range p.Jobs {
		require.LessOrEqual(t, j.MaxTime-j.MinTime, int64(64*24*3_600_000))
	}
}

// A block with all the sources and times of others is damaged or has no samples.
func TestMake_DamagedBlockSupersedesNone(t *testing.T) {
	for name, change := range map[string]func(*bucket, *block.Meta){
		"quarantined": func(b *bucket, m *block.Meta) { b.view.Quarantined[m.ULID] = "chunk_corrupt" },
		"no samples":  func(_ *bucket, m *block.Meta) { m.Stats.NumSamples = 0 },
		"all times":   func(_ *bucket, m *block.Meta) { m.MinTime, m.MaxTime = math.MinInt64, math.MaxInt64 },
	} {
		b := newBucket()
		x, y := hours(b, "x", 0, 2), hours(b, "y", 2, 4)
		all := hours(b, "all", 0, 8)
		all.Compaction.Sources = []ulid.ULID{x.ULID, y.ULID}
		now := time.UnixMilli(0).Add(100 * 24 * time.Hour)
		p := plan.Make(b.view, plan.Policy{Ranges: plan.Ranges()}, now)
		require.Equal(t, 2, jobs(p, plan.MarkDeletion), "%s: a sound block supersedes both", name)
		change(b, all)
		p = plan.Make(b.view, plan.Policy{Ranges: plan.Ranges()}, now)
		require.Zero(t, jobs(p, plan.MarkDeletion), "%s: %s", name, b.print(p))
	}
}
