package interop

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// everyKind returns series of every type of value with the samples of one round: in order, at
// the time at, and an out-of-order float before it.
func everyKind(at time.Time, round int64) []prompb.TimeSeries {
	ms := at.UnixMilli()
	series := func(name string, hist ...prompb.Histogram) prompb.TimeSeries {
		ts := harness.TimeSeries(nil, "__name__", name, "job", "kinds")
		ts.Histograms = hist
		return ts
	}
	floats := harness.TimeSeries([]prompb.Sample{{Timestamp: ms, Value: float64(round)}}, "__name__", "kind_float", "job", "kinds")
	floats.Exemplars = []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: fmt.Sprint("t", round)}}, Value: float64(round), Timestamp: ms}}
	gauge := tsdbutil.GenerateTestGaugeHistogram(round)
	return []prompb.TimeSeries{
		floats,
		harness.TimeSeries([]prompb.Sample{{Timestamp: ms - 40*60_000, Value: float64(round)}, {Timestamp: ms, Value: -float64(round)}}, "__name__", "kind_late", "job", "kinds"),
		series("kind_histogram", prompb.FromIntHistogram(ms, tsdbutil.GenerateTestHistogram(round))),
		series("kind_gauge_histogram", prompb.FromIntHistogram(ms, gauge)),
		series("kind_float_histogram", prompb.FromFloatHistogram(ms, tsdbutil.GenerateTestFloatHistogram(round))),
		series("kind_custom_buckets", prompb.FromIntHistogram(ms, tsdbutil.GenerateTestCustomBucketsHistogram(round))),
		series("kind_float_custom_buckets", prompb.FromFloatHistogram(ms, tsdbutil.GenerateTestCustomBucketsFloatHistogram(round))),
	}
}

// A receiver that is killed leaves its write-ahead logs to the other program, in both directions
// and several times: every sample of every kind and tenant is there once.
func TestReceive_TakesOverTheLogsOfAKilledOne(t *testing.T) {
	for _, first := range programs() {
		t.Run("first "+string(first), func(t *testing.T) {
			s := newSite(t)
			at := s.address()
			args := []string{"--tsdb.path=" + s.mkdir("receive"), `--label=replica="a"`, "--tsdb.out-of-order.time-window=2h", "--tsdb.max-exemplars=1000"}
			wrote := time.Now().Add(-20 * time.Minute).Truncate(time.Second)
			begin, rounds := wrote, 0
			var q *node
			for _, p := range []program{first, first.other(), first, first.other()} {
				n := s.runAt(at, p, "receive", fmt.Sprintf("receive-%d", rounds), args...)
				if q == nil {
					q = s.querier(hindsight, "query", []*node{n})
				}
				for range 3 {
					rounds++
					wrote = wrote.Add(15 * time.Second)
					for _, tenant := range []string{"a", "b"} {
						w := harness.Writer{URL: "http://" + n.write + "/api/v1/receive", Header: http.Header{"Thanos-Tenant": {tenant}}}
						for range 2 { // senders repeat what was not acknowledged
							code, err := w.Write(everyKind(wrote, int64(rounds)))
							require.NoError(t, err, "%s answers %d", p, code)
						}
					}
				}
				for _, c := range []struct {
					name string
					want int
				}{
					{"kind_float", rounds}, {"kind_late", 2 * rounds}, {"kind_histogram", rounds}, {"kind_gauge_histogram", rounds},
					{"kind_float_histogram", rounds}, {"kind_custom_buckets", rounds}, {"kind_float_custom_buckets", rounds},
				} {
					eventually(t, 20*time.Second, func() error {
						got := counts(t, q, fmt.Sprintf(`sum(count_over_time(%s[2h]))`, c.name), wrote)
						if want := fmt.Sprintf("=%d ", 2*c.want); got != want {
							return fmt.Errorf("%s after %s: %s samples, want %s", c.name, p, got, want)
						}
						return nil
					})
				}
				require.Equal(t, fmt.Sprintf("=%d ", rounds*(rounds+1)), counts(t, q, `sum(sum_over_time(kind_float[2h]))`, wrote))
				require.Equal(t, "=0 ", counts(t, q, `sum(sum_over_time(kind_late[2h]))`, wrote))
				exemplars := q.put(t, ask("/api/v1/query_exemplars", "query", "kind_float", "start", seconds(begin), "end", seconds(wrote)))
				require.Contains(t, exemplars.raw, fmt.Sprintf(`"t%d"`, rounds))
				require.Contains(t, exemplars.raw, `"t1"`, "after %s", p)
				n.Kill()
			}
		})
	}
}
