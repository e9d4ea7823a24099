package compact_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/blockscan"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/deletion"
	"github.com/hindsight-io/hindsight/pkg/limit"
)

// churned are blocks of 8 h whose labels change with each, so that a merged index is
// much larger than one of theirs.
func churned() string {
	var s strings.Builder
	for i := range 8 {
		fmt.Fprintf(&s, "block a%02d range=%dh..%dh labels={cluster=\"eu\"}\n", i, 8*i, 8*i+8)
		for n := range 60 {
			fmt.Fprintf(&s, "  up{pod=\"%d-%d\"} %dh..%dh/1h:1+1\n", i, n, 8*i, 8*i+8)
		}
	}
	return s.String()
}

// splitFlags make an index of 16 KiB the largest one.
var splitFlags = []string{"--compact.block-max-index-size=16KB", "--delete-delay=0s"}

// TestMerge_SplitsResultOnce merges to shards, once: later passes take them for one
// block. Each is downsampled by itself, and a late block is merged with all of them.
func TestMerge_SplitsResultOnce(t *testing.T) {
	b := blocktest.Bucket(t, churned())
	want := content(t, b)
	c := newCompactor(t, b, splitFlags...)
	require.NoError(t, c.RunOnce(context.Background()))
	require.Equal(t, want, content(t, b))
	count := func() (raw, coarse int, set ulid.ULID) {
		seen := map[int]bool{}
		for id, m := range poll(t, b).Metas {
			switch s := m.Shard(); {
			case s.Count == 0:
			case m.Resolution() > 0:
				coarse++
			default:
				require.False(t, seen[s.Index])
				seen[s.Index] = true
				require.Contains(t, m.Compaction.Sources, id)
				raw, set = raw+1, s.Set
			}
		}
		return raw, coarse, set
	}
	raw, coarse, set := count()
	require.GreaterOrEqual(t, raw, 2)
	require.Equal(t, raw, coarse, "%v", live(t, b))
	names := list(t, b)
	require.NoError(t, newCompactor(t, b, splitFlags...).RunOnce(context.Background()))
	require.Equal(t, names, list(t, b), "nothing is left to do")

	blocktest.Fill(t, b, "block late range=10h..12h labels={cluster=\"eu\"}\n  up{pod=\"0-1\"} 10h..12h/1h:7\n")
	want = content(t, b)
	require.NoError(t, newCompactor(t, b, splitFlags...).RunOnce(context.Background()))
	require.Equal(t, want, content(t, b))
	raw, _, next := count()
	require.GreaterOrEqual(t, raw, 2)
	require.NotEqual(t, set, next)
}

// TestMerge_LeavesOutShardsWithoutSeries merges few series with long labels, so that by their
// hash some of the 8 shards that the limit asks for have none. Those are not published, and
// the others count as a whole set, which is downsampled.
func TestMerge_LeavesOutShardsWithoutSeries(t *testing.T) {
	var text strings.Builder
	for i := range 8 {
		fmt.Fprintf(&text, "block a%02d range=%dh..%dh labels={cluster=\"eu\"}\n", i, 8*i, 8*i+8)
		fmt.Fprintf(&text, "  up{pod=\"%d\",padding=\"%s\"} %dh..%dh/1h:1+1\n", i%5, strings.Repeat(fmt.Sprint(i%5), 5<<10), 8*i, 8*i+8)
	}
	b := blocktest.Bucket(t, text.String())
	want := content(t, b)
	require.NoError(t, newCompactor(t, b, splitFlags...).RunOnce(t.Context()))
	require.Equal(t, want, content(t, b))
	shards := map[int64]map[int]int{}
	for _, m := range poll(t, b).Metas {
		if s := m.Shard(); s.Count > 0 {
			require.NotZero(t, m.Stats.NumSamples)
			if shards[m.Resolution()] == nil {
				shards[m.Resolution()] = map[int]int{}
			}
			shards[m.Resolution()][s.Index] = s.Count
		}
	}
	whole := map[int]int{0: 5, 1: 5, 2: 5, 3: 5, 4: 5}
	require.Equal(t, map[int64]map[int]int{block.ResolutionRaw: whole, block.Resolution5m: whole}, shards)
	names := list(t, b)
	require.NoError(t, newCompactor(t, b, splitFlags...).RunOnce(t.Context()))
	require.Equal(t, names, list(t, b), "nothing is left to do")
}

// TestMerge_SplitSurvivesCrashAtEachUpload ends the compactor at each upload of a merge
// that makes shards. No sample is lost, and the next run makes what an undisturbed one
// makes.
func TestMerge_SplitSurvivesCrashAtEachUpload(t *testing.T) {
	flags := append([]string{"--downsampling.disable"}, splitFlags...)
	start := blocktest.Bucket(t, churned())
	want := content(t, start)
	for n := 1; ; n++ {
		b := copyBucket(t, start)
		uploads, crashed := 0, false
		faulty := buckettest.NewFaulty(b, func(op buckettest.Op) buckettest.Fault {
			if op.Kind == "upload" && !strings.HasPrefix(op.Name, "hindsight/") {
				uploads++
				crashed = crashed || uploads == n
			}
			if crashed {
				return buckettest.Fault{Err: buckettest.ErrInjected, AfterEffect: n%2 == 0}
			}
			return buckettest.Fault{}
		})
		dir := t.TempDir() // with it the leases of the crashed run need no waiting
		err := compactorIn(t, dir, faulty, flags...).RunOnce(context.Background())
		if !crashed {
			require.NoError(t, err)
			require.Greater(t, n, 8)
			return
		}
		what := fmt.Sprintf("crash at upload %d", n)
		require.Error(t, err, what)
		require.Equal(t, asSet(want), asSet(content(t, b)), what)
		require.NoError(t, compactorIn(t, dir, b, flags...).RunOnce(context.Background()), what)
		require.Equal(t, asSet(want), asSet(content(t, b)), what)
		shards := 0
		for _, m := range poll(t, b).Metas {
			if m.Shard() != (block.Shard{}) {
				shards++
			}
		}
		require.GreaterOrEqual(t, shards, 2, what)
	}
}

// TestMerge_KeepsDiskBudget fails with the name of the flag where the index of a merge
// exceeds the budget, and makes smaller segments before.
func TestMerge_KeepsDiskBudget(t *testing.T) {
	b := blocktest.Bucket(t, churned())
	before := live(t, b)
	err := newCompactor(t, b, "--compact.disk-budget=16KB").RunOnce(context.Background())
	require.ErrorIs(t, err, limit.ErrExceeded)
	require.ErrorContains(t, err, "--compact.disk-budget")
	require.Equal(t, before, live(t, b))
	require.NoError(t, newCompactor(t, b, "--compact.disk-budget=1MB", "--compact.merge-memory=1MB").RunOnce(context.Background()))
	require.NotEqual(t, before, live(t, b))
}

// TestRewrite_EmptiedShardLeavesItsSetMergeable deletes all series of one shard, also of its
// 5m block. The set is complete without them: a late block is merged with it, and what is
// left is as if the series had never been there.
func TestRewrite_EmptiedShardLeavesItsSetMergeable(t *testing.T) {
	b := blocktest.Bucket(t, churned())
	require.NoError(t, newCompactor(t, b, splitFlags...).RunOnce(t.Context()))
	var pods []string
	for id, m := range poll(t, b).Metas {
		if m.Shard().Count > 0 && m.Shard().Index == 0 && m.Resolution() == 0 {
			each(t, b, id, func(l labels.Labels, _ []chunks.Meta) { pods = append(pods, l.Get("pod")) })
		}
	}
	require.NotEmpty(t, pods)
	before := content(t, b)
	request(t, b, deletion.Options{Selectors: []string{`{pod=~"` + strings.Join(pods, "|") + `"}`}})
	require.NoError(t, newCompactor(t, b, splitFlags...).RunOnce(t.Context()))
	require.Len(t, content(t, b), len(before)-len(pods))
	empty := map[int64]int{}
	for id, m := range poll(t, b).Metas {
		if m.Shard().Count > 0 && m.Stats.NumSamples == 0 {
			require.Zero(t, m.Shard().Index)
			empty[m.Resolution()]++
			readsEmpty(t, b, id)
		}
	}
	require.Equal(t, map[int64]int{0: 1, block.Resolution5m: 1}, empty)
	names := list(t, b)
	require.NoError(t, newCompactor(t, b, splitFlags...).RunOnce(t.Context()))
	require.Equal(t, names, list(t, b), "nothing is left to do")

	blocktest.Fill(t, b, "block late range=10h..12h labels={cluster=\"eu\"}\n  up{pod=\"late\"} 10h..12h/1h:7\n")
	want := content(t, b)
	require.NoError(t, newCompactor(t, b, splitFlags...).RunOnce(t.Context()))
	require.Equal(t, want, content(t, b))
	for _, m := range poll(t, b).Metas {
		require.NotEqual(t, blocktest.ID("late"), m.ULID, "it was merged with the shards")
	}
}

// TestDownsample_ShardOfStaleMarkersLeavesItsSetComplete downsamples a set of which one shard
// has only stale markers: its 5m shard is empty, so that the set can be made into 1h data.
func TestDownsample_ShardOfStaleMarkersLeavesItsSetComplete(t *testing.T) {
	b := blocktest.Bucket(t, `
block s0 range=0d..14d labels={cluster="eu"} source=compactor
  up{pod="a"} 0d..14d/1h:1+1
block s1 range=0d..14d labels={cluster="eu"} source=compactor
  up{pod="b"} 0d..1d/1h:stale
`)
	for i, name := range []string{"s0", "s1"} {
		m, err := block.ReadMeta(t.Context(), b, blocktest.ID(name))
		require.NoError(t, err)
		m.SetShard(block.Shard{Set: blocktest.ID("s0"), Index: i, Count: 2})
		m.Compaction.Sources = []ulid.ULID{blocktest.ID("a"), m.ULID}
		require.NoError(t, blocktest.PutMeta(t.Context(), b, m))
	}
	require.NoError(t, newCompactor(t, b).RunOnce(t.Context()))
	count := map[int64]int{}
	for _, m := range poll(t, b).Metas {
		count[m.Resolution()]++
	}
	require.Equal(t, map[int64]int{0: 2, block.Resolution5m: 2, block.Resolution1h: 2}, count)
}

// readsEmpty reads an empty block as the store gateway does.
func readsEmpty(t *testing.T, b bucket.Bucket, id ulid.ULID) {
	t.Helper()
	m, err := block.ReadMeta(t.Context(), b, id)
	require.NoError(t, err)
	res, err := blockscan.Scan(t.Context(), b, m, 0, blockscan.Query{
		Matchers: [][]*labels.Matcher{{labels.MustNewMatcher(labels.MatchRegexp, "pod", ".*")}},
	})
	require.NoError(t, err)
	require.Zero(t, res.Series)
}
