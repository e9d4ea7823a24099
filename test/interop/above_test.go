package interop

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// twoClusters starts a store for each of two clusters, with the same series of two days.
func (s *site) twoClusters(p program) (stores []*node, start, end time.Time) {
	s.Helper()
	local := s.mkdir("local")
	writeBlock(s.T, local, epoch(), epoch()+day)
	for _, cluster := range []string{"eu", "us"} {
		bucket := s.bucket("bucket-" + cluster)
		s.upload(p, bucket, local, fmt.Sprintf("cluster=%q", cluster), `replica="a"`)
		stores = append(stores, s.run(p, "store", "store-"+cluster, bucket, "--data-dir="+s.mkdir("store-"+cluster)))
	}
	return stores, time.UnixMilli(epoch() + 3*hour), time.UnixMilli(epoch() + 9*hour)
}

// aggregations have a result over both clusters; distributed queriers evaluate them in parts.
func aggregations() []string {
	return []string{
		`sum(temperature)`, `sum by (cluster) (rate(requests_total[1h]))`, `count by (path) (requests_total)`, `avg(temperature)`,
		`max by (room) (max_over_time(temperature[2h]))`, `topk(2, temperature)`, `histogram_quantile(0.9, sum(rate(latency[1h])))`,
		`sum by (path) (rate(requests_total[1h])) / count by (path) (requests_total)`, `requests_total`, `quantile(0.5, temperature)`,
		`sum(size)`, `absent(nothing)`, `count(ends offset 30m)`, `sum(temperature) + 1`, `min(min_over_time(sum(temperature)[1h:10m]))`,
	}
}

// A distributed querier of either program over queriers of either program has the answers of one
// querier over all stores.
func TestQueryService_BetweenThePrograms(t *testing.T) {
	s := newSite(t)
	stores, start, end := s.twoClusters(hindsight)
	flat := s.querier(hindsight, "flat", stores)
	questions := append(overRange(start, end, "600", aggregations()...), atTime(end, aggregations()...)...)
	for _, below := range programs() {
		var leaves []*node
		for i, store := range stores {
			leaves = append(leaves, s.querier(below, fmt.Sprintf("%s-leaf-%d", below, i), []*node{store}))
		}
		for _, above := range programs() {
			args := []string{"--query.mode=distributed"}
			if above == thanos {
				args = append(args, "--query.promql-engine=thanos")
			}
			top := s.querier(above, string(above)+"-over-"+string(below), leaves, args...)
			t.Run(top.Name, func(t *testing.T) { same(t, flat, top, questions...) })
			s.stop(top)
			plain := s.querier(above, string(above)+"-plain-over-"+string(below), leaves)
			t.Run(plain.Name, func(t *testing.T) {
				same(t, flat, plain, questions...)
				same(t, flat, plain, bucketMetadata(start, end)...)
			})
			s.stop(plain)
		}
	}
}

// A query frontend of Thanos above a querier of this program has the answers of the querier, also
// from its cache and in shards.
func TestFrontend_OverQuerier(t *testing.T) {
	s := newSite(t)
	stores, start, end := s.twoClusters(hindsight)
	q := s.querier(hindsight, "query", stores)
	front := s.run(thanos, "query-frontend", "frontend", "--query-frontend.downstream-url="+q.url(), "--query-range.split-interval=2h",
		"--query-frontend.vertical-shards=2", "--query-range.response-cache-config="+"type: IN-MEMORY\nconfig: {max_size: 10MB}\n")
	questions := append(overRange(start, end, "600", aggregations()...), atTime(end, aggregations()...)...)
	for range 2 {
		same(t, q, front, questions...)
	}
	same(t, q, front, ask("/api/v1/labels", "start", seconds(start), "end", seconds(end)),
		ask("/api/v1/series", "match[]", "temperature", "start", seconds(start), "end", seconds(end)),
		ask("/api/v1/label/room/values", "start", seconds(start), "end", seconds(end)))
}

// A ruler of Thanos asks a querier of this program, writes to a receiver of this program, and is
// a store of the querier.
func TestRuler_BesideThisProgram(t *testing.T) {
	s := newSite(t)
	stores, _, _ := s.twoClusters(hindsight)
	receive := s.run(hindsight, "receive", "receive", "--tsdb.path="+s.mkdir("receive"), `--label=replica="a"`)
	rules := s.file("rules.yml", `
groups:
  - name: g
    interval: 1s
    rules:
      - record: all:up
        expr: count(vector(1)) by (x) * 7
        labels: {made: rule}
      - alert: Always
        expr: vector(1) > 0
        labels: {severity: page}
`)
	q := s.address()
	base := []string{"--rule-file=" + rules, "--query=" + q.http, "--eval-interval=1s", `--label=ruler="r"`, `--label=replica="a"`}
	stateful := s.run(thanos, "rule", "ruler", append(base, "--data-dir="+s.mkdir("ruler"))...)
	config := fmt.Sprintf("remote_write: [{url: %q, headers: {THANOS-TENANT: rules}}]", "http://"+receive.write+"/api/v1/receive")
	s.run(thanos, "rule", "stateless-ruler", append(base, "--data-dir="+s.mkdir("stateless"), "--remote-write.config="+config)...)
	args := []string{"--query.replica-label=replica"}
	for _, n := range append(stores, receive, stateful) {
		args = append(args, "--endpoint="+n.grpc)
	}
	ours := s.runAt(q, hindsight, "query", "query", args...)
	for _, selector := range []string{`all:up{ruler="r",tenant_id=""}`, `all:up{tenant_id="rules"}`} {
		eventually(t, 30*time.Second, func() error {
			ans, err := ours.api().Instant(selector, time.Now())
			if err != nil {
				return err
			}
			if len(ans.Series) != 1 || ans.Series[0].Samples[0].V != "7" {
				return fmt.Errorf("%s: %v", selector, ans)
			}
			return nil
		})
	}
	theirs := s.querier(thanos, "thanos-query", append(stores, receive, stateful))
	same(t, theirs, ours, ask("/api/v1/rules"), ask("/api/v1/rules", "type", "alert"), ask("/api/v1/rules", "type", "record"))
	require.Len(t, alertLabels(t, ours, "severity"), 1)
}
