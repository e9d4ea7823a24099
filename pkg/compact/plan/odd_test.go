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

// TestMake_OddBlockDoesNotStopItsGroup puts one block with a nonsense meta.json
// into a group that has a window to merge. The window is merged without it, the
// window that may still grow waits, and retention leaves the block alone.
func TestMake_OddBlockDoesNotStopItsGroup(t *testing.T) {
	day := time.Hour * 24
	now := time.UnixMilli(0).Add(100 * day)
	for _, c := range []struct {
		name, code string
		change     func(*block.Meta)
	}{
		{"years", plan.CodeTooLong, func(m *block.Meta) { m.MinTime, m.MaxTime = 0, (90 * day).Milliseconds() }},
		{"years before all", plan.CodeTooLong, func(m *block.Meta) {
			m.MinTime, m.MaxTime = -300*365*day.Milliseconds(), (99 * day).Milliseconds()
		}},
		{"all times", plan.CodeTimes, func(m *block.Meta) { m.MinTime, m.MaxTime = math.MinInt64, math.MaxInt64 }},
		{"long ago", plan.CodeTimes, func(m *block.Meta) { m.MinTime, m.MaxTime = math.MinInt64, math.MinInt64+1 }},
		{"far future", plan.CodeTimes, func(m *block.Meta) { m.MinTime, m.MaxTime = math.MaxInt64-1, math.MaxInt64 }},
		{"future", plan.CodeFuture, func(m *block.Meta) { m.MinTime, m.MaxTime = (200 * day).Milliseconds(), (201 * day).Milliseconds() }},
		{"no length", plan.CodeEmptyRange, func(m *block.Meta) { m.MaxTime = m.MinTime }},
		{"backwards", plan.CodeEmptyRange, func(m *block.Meta) { m.MaxTime = m.MinTime - 1 }},
		{"resolution", plan.CodeResolution, func(m *block.Meta) { m.Thanos.Downsample.Resolution = 12345 }},
	} {
		b := newBucket()
		for i, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
			hours(b, name, 2328+2*int64(i), 2330+2*int64(i)) // one 8 h window and three of four blocks of the next
		}
		odd := hours(b, "odd", 2330, 2332)
		c.change(odd)
		p := plan.Make(b.view, plan.Policy{Ranges: plan.Ranges(), Downsampling: true,
			Retention: map[int64]time.Duration{block.ResolutionRaw: 50 * day}}, now)
		require.Equal(t, 1, len(p.Jobs), "%s: %s", c.name, b.print(p))
		require.Equal(t, plan.Merge, p.Jobs[0].Kind, c.name)
		require.Equal(t, []ulid.ULID{b.id("a"), b.id("b"), b.id("c"), b.id("d")}, p.Jobs[0].Blocks, c.name)
		i := slices.IndexFunc(p.Skipped, func(s plan.Skip) bool { return s.Block == odd.ULID })
		require.GreaterOrEqual(t, i, 0, "%s: it is named", c.name)
		require.Equal(t, c.code, p.Skipped[i].Code, c.name)
		require.NotEmpty(t, p.Skipped[i].Reason, c.name)
	}
}

// TestMake_LongRunIsCut chains overlapping blocks over a year: no merge is longer
// than the bound, and planning ends.
func TestMake_LongRunIsCut(t *testing.T) {
	b := newBucket()
	for i := range int64(30) {
		hours(b, string(rune('a'+i)), 300*i, 300*i+336)
	}
	p := plan.Make(b.view, plan.Policy{Ranges: plan.Ranges()}, time.UnixMilli(0).Add(400*24*time.Hour))
	require.Greater(t, p.Count(plan.Merge), 4)
	for _, j := range p.Jobs {
		require.LessOrEqual(t, j.MaxTime-j.MinTime, int64(64*24*3_600_000))
	}
}

// TestMake_UnsoundBlockReplacesNothing has a block that claims all the sources
// and times of others, but is damaged or has no samples.
func TestMake_UnsoundBlockReplacesNothing(t *testing.T) {
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
		require.Equal(t, 2, p.Count(plan.MarkDeletion), "%s: when sound, it replaces both", name)
		change(b, all)
		p = plan.Make(b.view, plan.Policy{Ranges: plan.Ranges()}, now)
		require.Zero(t, p.Count(plan.MarkDeletion), "%s: %s", name, b.print(p))
	}
}
