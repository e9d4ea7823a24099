package plan_test

import (
	"math"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

// at is a time in hours.
func at(hours int64) time.Time { return time.UnixMilli(hours * 3_600_000) }

// Ten blocks of 2 h: eight are merged into two of 8 h, then nothing is left. The first
// plan has both merges.
func TestBacklog_CountsInputsOfAllPlans(t *testing.T) {
	b := newBucket()
	p := plan.Policy{Ranges: plan.Ranges(), Downsampling: true}
	for i := range int64(10) {
		hours(b, string(rune('a'+i)), 2*i, 2*i+2).Stats.NumSamples = 100
	}
	require.Equal(t, []plan.GroupBacklog{
		{Group: `raw@{cluster="eu"}`, Merge: plan.Work{Jobs: 2, Blocks: 8, Samples: 800}},
	}, plan.Backlog(b.view, p, at(22)))
	require.Len(t, b.view.Metas, 10, "the view is not changed")

	// Two days and more: 6 merges of 4 blocks, one of 6, one downsampling of the result.
	for i := int64(10); i < 26; i++ {
		m := hours(b, string(rune('a'+i)), 2*i, 2*i+2)
		m.Stats.NumSamples, m.Stats.NumSeries = 100, 1
	}
	got := plan.Backlog(b.view, p, at(60))
	require.Equal(t, []plan.GroupBacklog{{
		Group:      `raw@{cluster="eu"}`,
		Merge:      plan.Work{Jobs: 7, Blocks: 30, Samples: 4800},
		Downsample: plan.Work{Jobs: 1, Blocks: 1, Samples: 2400},
	}}, got)
	require.Equal(t, plan.Work{Jobs: 8, Blocks: 31, Samples: 7200}, got[0].Total())
}

// Blocks that are to be rewritten are merged afterwards.
func TestBacklog_ContinuesAfterRewrites(t *testing.T) {
	b := newBucket()
	for i := range int64(10) {
		hours(b, string(rune('a'+i)), 2*i, 2*i+2).Stats.NumSamples = 100
	}
	b.view.Rewrites = map[ulid.ULID]string{b.id("a"): "it has deleted series"}
	got := plan.Backlog(b.view, plan.Policy{Ranges: plan.Ranges()}, at(22))
	require.Len(t, got, 1)
	require.Equal(t, plan.Work{Jobs: 2, Blocks: 8, Samples: 800}, got[0].Merge)
	require.Len(t, b.view.Rewrites, 1)
}

// Replicas are merged first, and their result is as dense as one of them.
func TestBacklog_EstimatesReplicas(t *testing.T) {
	b := newBucket()
	for i := range int64(5) {
		for _, r := range []string{"a", "b"} {
			m := hours(b, r+string(rune('0'+i)), 2*i, 2*i+2)
			m.Stats.NumSamples, m.Thanos.Labels["replica"] = 100, r
		}
	}
	p := plan.Policy{Ranges: plan.Ranges(), ReplicaLabels: []string{"replica"}}
	got := plan.Backlog(b.view, p, at(12))
	require.Len(t, got, 1)
	require.Equal(t, plan.Work{Jobs: 6, Blocks: 14, Samples: 1400}, got[0].Merge)
}

// A meta.json may have any number; the sums stay finite and the groups in order.
func TestBacklog_BoundsNumbersOfMeta(t *testing.T) {
	b := newBucket()
	for i := range int64(5) {
		m := hours(b, string(rune('a'+i)), 2*i, 2*i+2)
		m.Stats.NumSamples, m.Stats.NumSeries = math.MaxUint64, math.MaxUint64
	}
	hours(b, "odd", math.MinInt64/4_000_000, math.MaxInt64/4_000_000).Stats.NumSamples = math.MaxUint64
	p := plan.Policy{Ranges: plan.Ranges(), Downsampling: true}
	got := plan.Backlog(b.view, p, at(12))
	require.Len(t, got, 1)
	require.EqualValues(t, 4<<46, got[0].Total().Samples)
	require.Positive(t, plan.Inflow(b.view, p, at(12)))
	require.False(t, math.IsInf(plan.Inflow(b.view, p, at(12)), 0))
}

func TestInflow_AveragesLastDay(t *testing.T) {
	b := newBucket()
	p := plan.Policy{Ranges: plan.Ranges()}
	require.Zero(t, plan.Inflow(b.view, p, at(48)))
	for i := range int64(12) {
		hours(b, string(rune('a'+i)), 24+2*i, 26+2*i).Stats.NumSamples = 7200
	}
	require.InDelta(t, 1.0, plan.Inflow(b.view, p, at(48)), 1e-9)
	// Half of a merged block is older than a day.
	b.view.Metas[b.id("a")].MinTime = 22 * 3_600_000
	require.InDelta(t, 1-0.5/12, plan.Inflow(b.view, p, at(48)), 1e-9)
	// Their downsampled data and marked sources of a merge add nothing.
	ab := hours(b, "ab", 22, 28)
	ab.Stats.NumSamples = 14400
	ab.Compaction.Sources = append(ab.Compaction.Sources[:0], b.id("a"), b.id("b"))
	for _, n := range []string{"a", "b"} {
		b.view.Deletion[b.id(n)] = &block.DeletionMark{}
	}
	coarse := hours(b, "coarse", 22, 28)
	coarse.Stats.NumSamples, coarse.Thanos.Downsample.Resolution = 1<<40, block.Resolution5m
	require.InDelta(t, 1-0.5/12, plan.Inflow(b.view, p, at(48)), 0.1)
	require.Zero(t, plan.Inflow(b.view, p, at(96)), "no data arrives any more")
}

func TestPredict_JudgesLoad(t *testing.T) {
	p := plan.Policy{Ranges: plan.Ranges(), Downsampling: true}
	merge := plan.Speed{Samples: 1000, Time: time.Second, Concurrency: 2} // 2000 a second
	down := plan.Speed{Samples: 10_000, Time: 10 * time.Second}           // 1000 a second
	f := plan.Predict(plan.Outlook{Merge: 4000, Downsample: 3000, Inflow: 100, MergeSpeed: merge, DownsampleSpeed: down}, p)
	require.InDelta(t, 3*100./2000+100./1000, f.Load, 1e-9)
	require.InDelta(t, (2+3)/(1-f.Load), f.ETA, 1e-9)
	require.Equal(t, plan.KeepsUp, f.Verdict)

	f = plan.Predict(plan.Outlook{Merge: 1, Inflow: 500, MergeSpeed: merge, DownsampleSpeed: down}, p)
	require.Equal(t, plan.FallsBehind, f.Verdict)
	require.True(t, math.IsInf(f.ETA, 1))
	f = plan.Predict(plan.Outlook{Inflow: 500, MergeSpeed: merge, DownsampleSpeed: down}, p)
	require.Zero(t, f.ETA, "nothing is left now")

	f = plan.Predict(plan.Outlook{Merge: 1, Inflow: 1, DownsampleSpeed: down}, p)
	require.Equal(t, plan.Unknown, f.Verdict)
	require.True(t, math.IsNaN(f.ETA))
	require.True(t, math.IsNaN(f.Load))
	f = plan.Predict(plan.Outlook{Merge: 4000, MergeSpeed: merge}, p)
	require.Equal(t, plan.Forecast{Load: 0, ETA: 2, Verdict: plan.KeepsUp}, f)

	// Replicas are one more merge of each sample.
	p = plan.Policy{Ranges: plan.Ranges()[:2], ReplicaLabels: []string{"replica"}}
	f = plan.Predict(plan.Outlook{Inflow: 100, MergeSpeed: merge}, p)
	require.InDelta(t, 2*100./2000, f.Load, 1e-9)
}
