package interop

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
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

// A ring of both programs keeps every kind of value in each copy, over both protocols, also with
// limits and through a node of either program. Thanos has no custom buckets in Cap'n Proto, and
// loses such histograms there. It takes a request of remote write 2.0 for an empty one and answers
// 200, so such a request is only a repetition here.
func TestRing_KeepsEveryKind(t *testing.T) {
	for _, protocol := range []string{"protobuf", "capnproto"} {
		t.Run(protocol, func(t *testing.T) {
			s := newSite(t)
			limits := s.file("limits.yml", "write: {global: {max_concurrency: 10}, default: {request: {size_bytes_limit: 1000000, series_limit: 100, samples_limit: 100}, head_series_limit: 1000}, tenants: {small: {request: {series_limit: 3}}}}\n")
			r := s.newRing("ketama", 3, []program{thanos, hindsight, thanos}, "--receive.replication-protocol="+protocol,
				"--tsdb.max-exemplars=1000", "--receive.limits-config-file="+limits)
			rounds := 0
			for range 2 {
				for n := range r.nodes {
					rounds++
					r.wrote = r.wrote.Add(15 * time.Second)
					for _, v2 := range []bool{false, true} { // a repetition, in the other version
						w := harness.Writer{URL: "http://" + r.nodes[n].write + "/api/v1/receive", V2: v2, Header: http.Header{"Thanos-Tenant": {"a"}}}
						eventually(t, 20*time.Second, func() error {
							series := everyKind(r.wrote, int64(rounds))
							if protocol == "capnproto" {
								series = series[:len(series)-2]
							}
							code, err := w.Write(series)
							if err != nil {
								return fmt.Errorf("%s answers %d: %w", r.nodes[n].program, code, err)
							}
							return nil
						})
					}
					w := harness.Writer{URL: "http://" + r.nodes[n].write + "/api/v1/receive", Header: http.Header{"Thanos-Tenant": {"small"}}}
					code, _ := w.Write(everyKind(r.wrote, int64(rounds)))
					require.Equal(t, 413, code, "%s: more series than the limit of the tenant", r.nodes[n].program)
				}
			}
			ours, theirs := s.querier(hindsight, "query", r.nodes), s.querier(thanos, "thanos-query", r.nodes)
			for _, q := range []*node{ours, theirs} {
				kinds := []string{"float", "late", "histogram", "gauge_histogram", "float_histogram", "custom_buckets", "float_custom_buckets"}
				if protocol == "capnproto" {
					kinds = kinds[:len(kinds)-2]
				}
				for _, kind := range kinds {
					want := rounds
					if kind == "late" {
						want *= 2
					}
					eventually(t, 20*time.Second, func() error {
						got := counts(t, q, fmt.Sprintf(`sum by (replica) (count_over_time(kind_%s[2h]))`, kind), r.wrote)
						if w := fmt.Sprintf("0=%d 1=%d 2=%d ", want, want, want); got != w {
							return fmt.Errorf("%s sees %s: %s, want %s", q.Name, kind, got, w)
						}
						return nil
					})
				}
			}
			same(t, theirs, ours, each(atTime(r.wrote, `kind_float[2h]`, `kind_late[2h]`, `kind_histogram[2h]`, `kind_gauge_histogram[2h]`,
				`kind_float_histogram[2h]`, `kind_custom_buckets[2h]`, `kind_float_custom_buckets[2h]`), "dedup", "false")...)
			same(t, theirs, ours, ask("/api/v1/query_exemplars", "query", `{__name__=~"kind_.*"}`, "start", seconds(r.wrote.Add(-time.Hour)), "end", seconds(r.wrote.Add(time.Minute))))
		})
	}
}

// Series that can never be stored are refused for good through a router of either program, so that
// senders do not repeat the request without end, and the others of the request are stored.
func TestRing_RefusesForGood(t *testing.T) {
	for _, protocol := range []string{"protobuf", "capnproto"} {
		t.Run(protocol, func(t *testing.T) {
			s := newSite(t)
			r := s.newRing("ketama", 3, []program{thanos, hindsight, hindsight}, "--receive.replication-protocol="+protocol)
			for n := range r.nodes {
				r.written(n, 10, "a")
			}
			bad := map[string]prompb.TimeSeries{
				"a label twice":        harness.TimeSeries([]prompb.Sample{{Timestamp: r.wrote.UnixMilli(), Value: 1}}, "__name__", "bad", "a", "1", "a", "2"),
				"a label without name": harness.TimeSeries([]prompb.Sample{{Timestamp: r.wrote.UnixMilli(), Value: 1}}, "", "1", "__name__", "bad"),
			}
			if protocol == "capnproto" {
				bad["custom buckets, which Cap'n Proto of Thanos has not"] = everyKind(r.wrote, 1)[5]
			}
			for n := range r.nodes {
				for _, name := range slices.Sorted(maps.Keys(bad)) {
					r.wrote = r.wrote.Add(time.Second)
					good := harness.TimeSeries([]prompb.Sample{{Timestamp: r.wrote.UnixMilli(), Value: 1}}, "__name__", "good", "with", name, "through", fmt.Sprint(n))
					w := harness.Writer{URL: "http://" + r.nodes[n].write + "/api/v1/receive", Header: http.Header{"Thanos-Tenant": {"a"}}}
					code, err := w.Write([]prompb.TimeSeries{good, bad[name]})
					custom := strings.HasPrefix(name, "custom") && r.nodes[n].program == hindsight
					if code/100 != 4 && !custom {
						t.Errorf("%s through %s: %d: %v", name, r.nodes[n].program, code, err)
					}
				}
			}
			want := len(bad) * len(r.nodes)
			// A router of Thanos gives up its own copy as soon as two others are refused.
			q := s.querier(hindsight, "query", r.nodes[1:])
			eventually(t, 20*time.Second, func() error {
				if got := counts(t, q, `count by (replica) (last_over_time(good[5m]))`, r.wrote); got != fmt.Sprintf("1=%d 2=%d ", want, want) {
					return fmt.Errorf("good series by node: %s, want %d each", got, want)
				}
				return nil
			})
		})
	}
}
