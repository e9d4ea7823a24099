package fanout_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
)

// unending is a set that never ends; all its chunks share their bytes.
type unending struct {
	storeapi.SeriesSet
	labels func(n int) labels.Labels
	chunk  []storeapi.Chunk
	n      int
}

func (u *unending) Next() bool { u.n++; return true }
func (u *unending) At() storeapi.Series {
	return storeapi.Series{Labels: u.labels(u.n), Chunks: u.chunk}
}

// A store that never ends is stopped and named, where its answer has to be held
// here: to be sorted, or because it is one series again and again.
func TestStoreWithoutEnd_IsStopped(t *testing.T) {
	one := func(int) labels.Labels { return labels.FromStrings("__name__", "m") }
	many := func(n int) labels.Labels { return labels.FromStrings("__name__", fmt.Sprintf("m%09d", n)) }
	unsorted := func(n int) labels.Labels { return labels.FromStrings("__name__", fmt.Sprintf("m%09d", 1<<29-n)) }
	for name, c := range map[string]struct {
		labels func(int) labels.Labels
		sorts  bool
	}{"repeats one": {one, true}, "promises no order": {many, false}, "keeps no order": {unsorted, true}} {
		set := &unending{labels: c.labels, chunk: []storeapi.Chunk{{
			Raw: storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: make([]byte, 1<<20)},
		}}}
		f := fake(t, "a", "m")
		f.About.SupportsWithoutReplicaLabels = c.sorts
		f.Wrap = func(_ context.Context, _ *storeapi.Request, s storeapi.SeriesSet) storeapi.SeriesSet {
			set.SeriesSet = s
			return set
		}
		got := read(t, fanout.New(of(named{Store: f, name: "bad:1"}), fanout.Config{}).Select(t.Context(), request()))
		require.NoError(t, got.err, name)
		require.Len(t, got.warnings, 1, name)
		require.Contains(t, got.warnings[0], "bad:1", name)
		require.Contains(t, got.warnings[0], limit.ErrExceeded.Error(), name)
		require.Less(t, set.n, 400, name)
	}
}
