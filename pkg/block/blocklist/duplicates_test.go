package blocklist_test

import (
	"fmt"
	"math/rand"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
)

// randomView has blocks of few sources, labels and resolutions, so that many
// are in others.
func randomView(rnd *rand.Rand) *blocklist.View {
	v := &blocklist.View{Metas: map[ulid.ULID]*block.Meta{}, Deletion: map[ulid.ULID]*block.DeletionMark{}}
	for i := range rnd.Intn(30) {
		m := &block.Meta{}
		m.ULID = blocktest.ID(fmt.Sprintf("%02d", i))
		m.MinTime, m.MaxTime = 0, 100
		m.Thanos.Labels = map[string]string{"a": fmt.Sprint(rnd.Intn(2)), "b": "x"}
		if rnd.Intn(3) == 0 {
			m.Thanos.Downsample.Resolution = block.Resolution5m
		}
		for s := range 6 {
			if rnd.Intn(3) == 0 {
				m.Compaction.Sources = append(m.Compaction.Sources, blocktest.ID(fmt.Sprintf("s%d", s)))
			}
		}
		rnd.Shuffle(len(m.Compaction.Sources), func(i, j int) {
			m.Compaction.Sources[i], m.Compaction.Sources[j] = m.Compaction.Sources[j], m.Compaction.Sources[i]
		})
		if rnd.Intn(3) == 0 {
			v.Deletion[m.ULID] = &block.DeletionMark{ID: m.ULID}
		}
		v.Metas[m.ULID] = m
	}
	return v
}

func subset(a, b *block.Meta) bool {
	have := map[ulid.ULID]bool{}
	for _, s := range b.Compaction.Sources {
		have[s] = true
	}
	for _, s := range a.Compaction.Sources {
		if !have[s] {
			return false
		}
	}
	return true
}

// TestDuplicates_KeepsAllData checks that the data of every dropped block is in a kept one,
// and that of no kept block in another.
func TestDuplicates_KeepsAllData(t *testing.T) {
	rnd := rand.New(rand.NewSource(1))
	for range 2000 {
		v := randomView(rnd)
		out, dropped := v.Apply(blocklist.Duplicates())
		require.Equal(t, len(v.Metas), len(out.Metas)+len(dropped))
		in := func(m *block.Meta) bool {
			for _, k := range out.Metas {
				if k.ULID != m.ULID && k.Resolution() == m.Resolution() && k.Thanos.Labels["a"] == m.Thanos.Labels["a"] && subset(m, k) {
					return true
				}
			}
			return false
		}
		for id := range dropped {
			require.True(t, in(v.Metas[id]), "data of %s is lost", name(id))
		}
		for _, m := range out.Metas {
			if len(m.Compaction.Sources) > 0 {
				require.False(t, in(m), "%s is there twice", name(m.ULID))
			}
		}
	}
}

// TestDuplicates_KeepsTheRewrittenBlock has a block, what was rewritten of it, and what was
// rewritten of that: only the last one is read.
func TestDuplicates_KeepsTheRewrittenBlock(t *testing.T) {
	metas := map[ulid.ULID]*block.Meta{}
	for i, rewrites := range []string{"", "[{}]", "[{},{}]"} {
		m := &block.Meta{}
		m.ULID = ulid.MustNew(uint64(i+1), nil)
		m.Compaction.Sources = []ulid.ULID{ulid.MustNew(1, nil)}
		m.Thanos.Rewrites = []byte(rewrites)
		metas[m.ULID] = m
	}
	out, _ := (&blocklist.View{Metas: metas}).Apply(blocklist.Duplicates())
	require.Len(t, out.Metas, 1)
	require.Contains(t, out.Metas, ulid.MustNew(3, nil))
}

// TestSuperseded_KeepsASuccessor checks that the data of a dropped block is in an unmarked
// block, and that no unmarked block is dropped.
func TestSuperseded_KeepsASuccessor(t *testing.T) {
	rnd := rand.New(rand.NewSource(2))
	for range 2000 {
		v := randomView(rnd)
		out, _ := v.Apply(blocklist.Superseded())
		for id, m := range v.Metas {
			successor := false
			for _, k := range v.Metas {
				successor = successor || (k.ULID != id && v.Deletion[k.ULID] == nil && k.Resolution() == m.Resolution() && subset(m, k))
			}
			want := v.Deletion[id] == nil || len(m.Compaction.Sources) == 0 || !successor
			require.Equal(t, want, out.Metas[id] != nil, "%s", name(id))
		}
	}
}
