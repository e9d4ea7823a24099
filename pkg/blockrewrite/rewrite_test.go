package blockrewrite

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
)

const everything = `
block a range=0s..2h labels={cluster="eu"}
  lat{job="x"}                0s..2h/1m:h1+1
  lat{job="y"}                0s..2h/1m:fh1+1
  up{job="x",instance="a"}    0s..2h/15s:1+0.5
  up{job="x",instance="b"}    0s:1 15s:2 | 30s:3 1h:stale 1h1m:NaN
  up{job="z"}                 0s..1h/15s:1+1
`

func everywhere(m *labels.Matcher, d ...tombstones.Interval) func(labels.Labels) tombstones.Intervals {
	return func(l labels.Labels) tombstones.Intervals {
		if m.Matches(l.Get(m.Name)) {
			return d
		}
		return nil
	}
}

func source(t *testing.T, text, name string) (dir string, m *block.Meta) { //nolint:unparam // the text is part of each test
	t.Helper()
	dir = filepath.Join(blocktest.Dir(t, text), blocktest.ID(name).String())
	m, err := block.ReadMetaDir(dir)
	require.NoError(t, err)
	return dir, m
}

// dump returns the samples of a block, by Prometheus's querier.
func dump(t *testing.T, b tsdb.BlockReader) (out []string) {
	t.Helper()
	q, err := tsdb.NewBlockQuerier(b, math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer func() { require.NoError(t, q.Close()) }()
	set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
	for set.Next() {
		s := set.At()
		it := s.Iterator(nil)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			if typ == chunkenc.ValFloat {
				ts, v := it.At()
				out = append(out, fmt.Sprint(s.Labels(), ts, math.Float64bits(v)))
			} else {
				ts, h := it.AtFloatHistogram(nil)
				out = append(out, fmt.Sprint(s.Labels(), ts, h.String()))
			}
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
	return out
}

func openBlock(t *testing.T, dir string) *tsdb.Block {
	t.Helper()
	b, err := tsdb.OpenBlock(slog.New(slog.DiscardHandler), dir, aggr.NewPool(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// rewritten rewrites, describes, verifies and checks.
func rewritten(t *testing.T, dir string, m *block.Meta, e Edits) (string, *block.Meta, Result) {
	t.Helper()
	dest := filepath.Join(t.TempDir(), "out")
	res, err := Rewrite(t.Context(), dir, m, dest, e)
	require.NoError(t, err)
	out, err := Describe(dest, m, res.Stats, Lineage{Source: block.SourceCompactor, Now: time.Unix(1e9, 0)})
	require.NoError(t, err)
	_, err = block.Verify(t.Context(), dest)
	require.NoError(t, err)
	require.NoError(t, Check(t.Context(), dest, out, e.Deleted))
	return dest, out, res
}

// TestRewrite_EqualsDeleteOfPrometheus deletes random intervals of random series and
// compares with tsdb.Block.Delete.
func TestRewrite_EqualsDeleteOfPrometheus(t *testing.T) {
	for seed := range uint64(15) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		dir, m := source(t, everything, "a")
		matcher := []*labels.Matcher{
			labels.MustNewMatcher(labels.MatchEqual, "job", "x"),
			labels.MustNewMatcher(labels.MatchRegexp, "job", "x|z"),
			labels.MustNewMatcher(labels.MatchEqual, "instance", ""),
			labels.MustNewMatcher(labels.MatchEqual, "__name__", "lat"),
		}[rnd.IntN(4)]
		mint := rnd.Int64N(2 * 3600 * 1000)
		maxt := mint + rnd.Int64N(3600*1000)
		if seed%5 == 0 {
			mint, maxt = math.MinInt64, math.MaxInt64
		}
		dest, out, _ := rewritten(t, dir, m, Edits{Deleted: everywhere(matcher, tombstones.Interval{Mint: mint, Maxt: maxt})})
		got := dump(t, openBlock(t, dest))

		oracle := openBlock(t, dir)
		before := len(dump(t, oracle))
		require.NoError(t, oracle.Delete(t.Context(), mint, maxt, matcher))
		want := dump(t, oracle)
		require.Equal(t, want, got, "seed %d", seed)
		require.Less(t, len(got), before)
		require.Equal(t, uint64(len(got)), out.Stats.NumSamples)
		require.NoError(t, os.Remove(filepath.Join(dir, tombstones.TombstonesFilename)))
	}
}

func TestRewrite_LeavesNoSymbolOfRemovedSeries(t *testing.T) {
	dir, m := source(t, everything, "a")
	dest, _, res := rewritten(t, dir, m, Edits{Deleted: everywhere(labels.MustNewMatcher(labels.MatchEqual, "__name__", "up"), tombstones.Interval{Mint: 0, Maxt: 2 * 3600 * 1000})})
	require.Equal(t, uint64(3), res.RemovedSeries)
	for _, file := range []string{block.IndexFile, block.SegmentName(1)} {
		text, err := os.ReadFile(filepath.Join(dest, file))
		require.NoError(t, err)
		require.NotContains(t, string(text), "instance")
	}
	text, err := os.ReadFile(filepath.Join(dest, block.IndexFile))
	require.NoError(t, err)
	require.Contains(t, string(text), "lat")
	require.NotContains(t, string(text), "up")
}

func TestRewrite_WithoutMatchChangesNothing(t *testing.T) {
	dir, m := source(t, everything, "a")
	e := Edits{Deleted: everywhere(labels.MustNewMatcher(labels.MatchEqual, "job", "x"), tombstones.Interval{Mint: 1, Maxt: 14_000})}
	res, err := Preview(t.Context(), dir, m, e)
	require.NoError(t, err)
	require.False(t, res.Changed(), "the interval is between samples")
	require.Equal(t, m.Stats.NumSamples, res.Stats.NumSamples)
}

func TestRewrite_RelabelsSortsAndMerges(t *testing.T) {
	dir, m := source(t, everything, "a")
	var changes []string
	e := Edits{
		Relabel: func(l labels.Labels) labels.Labels {
			if l.Get("job") == "z" {
				return labels.EmptyLabels()
			}
			return labels.NewBuilder(l).Del("instance").Set("job", "w").Labels()
		},
		OnChange: func(c Change) { changes = append(changes, c.Before.String()+" -> "+c.After.String()) },
	}
	dest, out, res := rewritten(t, dir, m, Edits{Relabel: e.Relabel, OnChange: e.OnChange})
	require.Equal(t, []string{
		`{__name__="up", job="z"} -> {}`,
		`{__name__="lat", job="x"} -> {__name__="lat", job="w"}`, `{__name__="lat", job="y"} -> {__name__="lat", job="w"}`,
		`{__name__="up", instance="a", job="x"} -> {__name__="up", job="w"}`, `{__name__="up", instance="b", job="x"} -> {__name__="up", job="w"}`,
	}, changes)
	require.Equal(t, uint64(5), res.ChangedSeries)
	require.Equal(t, uint64(1), res.RemovedSeries)
	require.Equal(t, uint64(2), out.Stats.NumSeries)
	ups := 0
	for _, line := range dump(t, openBlock(t, dest)) {
		if strings.HasPrefix(line, `{__name__="up"`) {
			ups++
		}
	}
	require.Equal(t, 480, ups, "samples of equal times count once")
}

func TestDescribe_KeepsSourcesAndNamesParents(t *testing.T) {
	dir, m := source(t, everything, "a")
	e := Edits{Deleted: everywhere(labels.MustNewMatcher(labels.MatchEqual, "job", "x"), tombstones.Interval{Mint: 0, Maxt: 1000})}
	dest, first, res := rewritten(t, dir, m, e)
	require.Equal(t, []ulid.ULID{m.ULID}, first.Compaction.Sources)
	require.Equal(t, 1, first.RewriteCount())
	matcher := labels.MustNewMatcher(labels.MatchRegexp, "a", "b.*")
	second, err := Describe(dest, first, res.Stats, Lineage{Source: block.SourceCompactor, Now: time.Unix(2e9, 0), Entry: Entry{
		Deletions: []DeletionEntry{{Matchers: []*labels.Matcher{matcher}, Intervals: tombstones.Intervals{{Mint: 1, Maxt: 2}}, RequestID: "x"}},
	}})
	require.NoError(t, err)
	require.Equal(t, 2, second.RewriteCount())
	require.Equal(t, m.ULID, second.Compaction.Parents[1].ULID)
	require.Equal(t, first.ULID, second.Compaction.Parents[0].ULID)
	var entries []json.RawMessage
	require.NoError(t, json.Unmarshal(second.Thanos.Rewrites, &entries))
	require.JSONEq(t, fmt.Sprintf(`{"sources":[%q],"deletions_applied":[{"matchers":[{"Type":2,"Name":"a","Value":"b.*"}],"intervals":[{"Mint":1,"Maxt":2}],"request_id":"x"}]}`, first.ULID), string(entries[1]))
}

func TestRewrite_DamageBlamesTheSource(t *testing.T) {
	dir, m := source(t, everything, "a")
	path := filepath.Join(dir, block.SegmentName(1))
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	b[len(b)/2] ^= 1
	require.NoError(t, os.WriteFile(path, b, 0o666))
	_, err = Rewrite(t.Context(), dir, m, filepath.Join(t.TempDir(), "out"), Edits{})
	require.NotEmpty(t, block.ReasonOf(err), "%v", err)
}
