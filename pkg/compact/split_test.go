package compact_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
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
