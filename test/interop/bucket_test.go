package interop

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A bucket that one program ships, compacts and downsamples is finished for the other: it
// changes nothing, its tools find no fault, and both stores give the same answers over it.
func TestBucket_IsTheSameForBothPrograms(t *testing.T) {
	s := newSite(t)
	local := s.localBlocks("local")
	var made [2][]string
	var across [2]*node
	for i, p := range programs() {
		t.Run("made by "+string(p), func(t *testing.T) {
			s := s.in(t)
			name := "bucket-" + string(p)
			bucket := s.bucket(name)
			for _, replica := range []string{"a", "b"} {
				s.upload(p, bucket, local, `cluster="eu"`, `replica="`+replica+`"`)
			}
			s.compact(p, bucket, name+"-compact")
			s.compact(p, bucket, name+"-compact")
			made[i] = blocksOf(t, s.path(name))
			before := objectsOf(t, s.path(name))
			s.compact(p.other(), bucket, name+"-compact-other")
			require.Equal(t, made[i], blocksOf(t, s.path(name)), "the other compactor has nothing to do")
			for _, object := range before {
				require.Contains(t, objectsOf(t, s.path(name)), object)
			}
			s.tools(p.other(), bucket, len(made[i]))
			s.stores(bucket, name)
		})
		name := "bucket-" + string(p)
		store := s.run(hindsight, "store", "store-of-"+name, s.bucket(name), "--data-dir="+s.mkdir("store-of-"+name))
		across[i] = s.querier(hindsight, "query-of-"+name, []*node{store})
	}
	require.Equal(t, made[0], made[1], "both compactors make the same blocks")
	start, end := time.UnixMilli(epoch()+hour), time.UnixMilli(epoch()+13*day)
	require.NotZero(t, across[0].highest(t, overRange(start, end, "86400", `sum(resets(requests_total[1d]))`)[0].with("dedup", "false")))
	for _, resolution := range []string{"5m", "1h"} {
		// Chunks of Thanos say neither where a native histogram restarts nor when the last window
		// before that ended.
		exprs := slices.DeleteFunc(bucketExpressions(), func(e string) bool {
			return strings.Contains(e, "latency") || strings.Contains(e, "__name__")
		})
		same(t, across[0], across[1], each(overRange(start, end, "7200", exprs...), "max_source_resolution", resolution)...)
		for i, q := range across {
			if programs()[i] == thanos && resolution == "1h" {
				continue // Thanos has the false increase of its 5m data in the chunks
			}
			grown := overRange(start, end, "3600", `max_over_time(histogram_count(increase(latency[5h]))[13d:1h])`)[0].with("max_source_resolution", resolution)
			require.Less(t, q.highest(t, grown), 2*2700.0, "%s at %s: an increase that there was not, at a restart or a border of chunks", q.Name, resolution)
		}
	}
}

// in returns the site for a subtest.
func (s *site) in(t *testing.T) *site {
	out := *s
	out.T = t
	out.running = nil
	t.Cleanup(func() {
		for _, p := range out.running {
			if t.Failed() {
				t.Logf("the end of the log of %s:\n%s", p.Name, p.Tail(12))
			}
			_ = p.Stop(30 * time.Second)
		}
	})
	return &out
}

// tools runs the tools of a program over a bucket with n blocks.
func (s *site) tools(p program, bucket string, n int) {
	s.Helper()
	require.Len(s, strings.Fields(s.call(p, "tools", "bucket", "ls", bucket)), n)
	require.Equal(s, n, strings.Count(s.call(p, "tools", "bucket", "inspect", bucket, "--output=csv"), "\n")-1)
	s.call(p, "tools", "bucket", "verify", bucket, "--issues=index_known_issues", "--issues=overlapped_blocks", "--issues=duplicated_compaction")
	if p == thanos {
		s.call(p, "tools", "bucket", "cleanup", bucket)
	} else {
		s.call(p, "tools", "bucket", "cleanup", bucket, "--yes")
	}
	require.Len(s, strings.Fields(s.call(p, "tools", "bucket", "ls", bucket)), n)
}

// stores compares the stores of both programs over a bucket, below queriers of both.
func (s *site) stores(bucket, name string) {
	s.Helper()
	over := map[program]*node{}
	for _, p := range programs() {
		over[p] = s.run(p, "store", name+"-"+string(p)+"-store", bucket, "--data-dir="+s.mkdir(name+"-"+string(p)+"-store"))
	}
	start, end := time.UnixMilli(epoch()+hour), time.UnixMilli(epoch()+16*day+9*hour)
	for _, p := range programs() {
		a := s.querier(p, name+"-"+string(p)+"-over-thanos", []*node{over[thanos]})
		b := s.querier(p, name+"-"+string(p)+"-over-hindsight", []*node{over[hindsight]})
		for _, resolution := range []string{"0s", "5m", "1h"} {
			questions := overRange(start, end, "7200", bucketExpressions()...)
			questions = append(questions, overRange(start, start.Add(20*time.Hour), "300", bucketExpressions()...)...)
			same(s.T, a, b, each(questions, "max_source_resolution", resolution)...)
			same(s.T, a, b, each(questions[:4], "max_source_resolution", resolution, "dedup", "false")...)
		}
		same(s.T, a, b, bucketMetadata(start, end)...)
		if p == hindsight {
			c := s.querier(thanos, name+"-thanos-over-hindsight-again", []*node{over[hindsight]})
			// Thanos reads raw counters with their resets added up, so that rate does not see
			// where they begin.
			exprs := slices.DeleteFunc(bucketExpressions(), func(e string) bool { return strings.Contains(e, "(requests_total") })
			same(s.T, c, b, each(overRange(start, end, "3600", exprs...), "dedup", "false")...)
			require.Zero(s.T, c.highest(s.T, overRange(start, end, "3600", `sum(resets(requests_total[1d]))`)[0].with("dedup", "false")))
			same(s.T, c, b, bucketMetadata(start, end)...)
		}
	}
}

// highest returns the highest value of the answer to a range query.
func (n *node) highest(t *testing.T, q question) (max float64) {
	t.Helper()
	var data struct {
		Result []struct{ Values [][2]any }
	}
	r := n.put(t, q)
	b, err := json.Marshal(r.data)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &data), r.raw)
	require.NotEmpty(t, data.Result, "%s: %s: %.300s", n.Name, q, r.raw)
	for _, s := range data.Result {
		for _, v := range s.Values {
			f, err := strconv.ParseFloat(v[1].(string), 64)
			require.NoError(t, err)
			max = math.Max(max, f)
		}
	}
	return max
}

// bucketExpressions have results over the blocks of localBlocks; the functions are those that
// have a meaning over aggregates.
func bucketExpressions() []string {
	return []string{
		`requests_total`, `temperature{room="1"}`, `latency`, `size`,
		`rate(requests_total[3h])`, `increase(requests_total{path!="0"}[4h])`,
		`min_over_time(temperature[3h])`, `max_over_time(temperature[3h])`, `sum_over_time(temperature[3h])`,
		`count_over_time(temperature[3h])`, `avg_over_time(temperature[3h])`,
		`sum(rate(requests_total[3h]))`, `histogram_quantile(0.9, rate(latency[3h]))`, `histogram_count(latency)`,
		`histogram_sum(increase(latency[5h]))`, `avg(temperature)`, `ends`, `count({__name__=~".+"})`, `last_over_time(ends[3h])`,
	}
}

func bucketMetadata(start, end time.Time) []question {
	at := []string{"start", seconds(start), "end", seconds(end)}
	return []question{
		ask("/api/v1/labels", at...), ask("/api/v1/labels"), ask("/api/v1/label/__name__/values", at...), ask("/api/v1/label/replica/values", at...),
		ask("/api/v1/series", append(at, "match[]", `{__name__=~".+"}`)...), ask("/api/v1/series", append(at, "match[]", `{cluster="eu", path="1"}`, "dedup", "false")...),
		ask("/api/v1/label/room/values", append(at, "match[]", "temperature")...), ask("/api/v1/label/room/values", append(at, "match[]", "latency")...),
		ask("/api/v1/series", "match[]", "ends", "start", "0", "end", "1"),
	}
}
