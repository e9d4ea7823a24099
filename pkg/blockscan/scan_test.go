package blockscan

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
)

// TestScan_EqualsMatchingEachSeries compares with matching every series of a block whose
// index has several pages.
func TestScan_EqualsMatchingEachSeries(t *testing.T) {
	var text strings.Builder
	text.WriteString("block a range=0s..2h labels={cluster=\"eu\"}\n")
	var all []labels.Labels
	for i := range 3000 {
		l := labels.FromStrings("__name__", fmt.Sprintf("m%04d", i%300), "instance", fmt.Sprintf("%0100d", i))
		all = append(all, l)
		fmt.Fprintf(&text, "  m%04d{instance=\"%0100d\"} %ds:1 | %ds:2\n", i%300, i, i%60, 3600+i%60)
	}
	b := blocktest.Bucket(t, text.String())
	m, err := block.ReadMeta(t.Context(), b, blocktest.ID("a"))
	require.NoError(t, err)
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 10 {
		n := rnd.IntN(300)
		lists := [][]*labels.Matcher{{labels.MustNewMatcher(labels.MatchEqual, "__name__", fmt.Sprintf("m%04d", n))}}
		if rnd.IntN(2) == 0 {
			lists = append(lists, []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "instance", ".*[05]"), labels.MustNewMatcher(labels.MatchNotEqual, "__name__", "m0005")})
		}
		until := rnd.Int64N(60_000)
		deleted := tombstones.Intervals{{Mint: math.MinInt64, Maxt: until}}
		want := 0
		for i, l := range all {
			hit := false
			for _, ms := range lists {
				ok := true
				for _, m := range ms {
					ok = ok && m.Matches(l.Get(m.Name))
				}
				hit = hit || ok
			}
			if hit && int64(i%60)*1000 <= until {
				want++
			}
		}
		q := Query{Matchers: lists, Deleted: func(labels.Labels) tombstones.Intervals { return deleted }}
		res, err := Scan(t.Context(), b, m, 0, q)
		require.NoError(t, err)
		require.Equal(t, uint64(want), res.Series)
		require.Equal(t, uint64(want), res.Chunks)
		q.Any = true
		res, err = Scan(t.Context(), b, m, 0, q)
		require.NoError(t, err)
		require.Equal(t, min(uint64(want), 1), res.Series)
	}
	f := buckettest.NewFaulty(b, nil)
	_, err = Scan(t.Context(), f, m, 0, Query{Matchers: [][]*labels.Matcher{{labels.MustNewMatcher(labels.MatchEqual, "__name__", "none")}}})
	require.NoError(t, err)
	require.Zero(t, f.Count("get"))
	require.LessOrEqual(t, f.Count("get_range"), 8, "an index that has no match costs few requests")
}

func TestScan_DamageIsAnError(t *testing.T) {
	b := blocktest.Bucket(t, "block a range=0s..2h labels={cluster=\"eu\"}\n up{} 0s:1\n")
	m, err := block.ReadMeta(t.Context(), b, blocktest.ID("a"))
	require.NoError(t, err)
	require.NoError(t, b.Upload(t.Context(), block.Path(m.ULID, block.IndexFile), strings.NewReader(strings.Repeat("x", 500)), 500))
	_, err = Scan(t.Context(), b, m, 0, Query{Matchers: [][]*labels.Matcher{nil}})
	require.ErrorContains(t, err, m.ULID.String())
	require.NoError(t, b.Delete(t.Context(), block.Path(m.ULID, block.IndexFile)))
	_, err = Scan(t.Context(), b, m, 100, Query{Matchers: [][]*labels.Matcher{nil}})
	require.Error(t, err)
}
