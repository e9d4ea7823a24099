package interop

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// ring is a hashring of receivers of both programs.
type ring struct {
	*site
	nodes []*node
	flags []string // of all nodes
	wrote time.Time
}

// newRing starts a ring with one node of each of the given programs.
func (s *site) newRing(algorithm string, copies int, of []program, flags ...string) *ring {
	s.Helper()
	return s.newRingFile(func(ends []string) string {
		return fmt.Sprintf(`[{"hashring": "all", "algorithm": %q, "endpoints": [%s]}]`, algorithm, strings.Join(ends, ", "))
	}, algorithm, copies, of, flags...)
}

// newRingFile is newRing with the hashring file that configure makes of the endpoints, which are
// objects of JSON.
func (s *site) newRingFile(configure func(ends []string) string, algorithm string, copies int, of []program, flags ...string) *ring {
	s.Helper()
	r := &ring{site: s, wrote: time.Now().Add(-10 * time.Minute).Truncate(time.Second)}
	var ends []string
	for range of {
		n := s.address()
		r.nodes = append(r.nodes, n)
		ends = append(ends, fmt.Sprintf(`{"address": %q, "capnproto_address": %q}`, n.grpc, n.capnp))
	}
	file := s.file("hashring.json", configure(ends))
	r.flags = append([]string{
		"--receive.hashrings-file=" + file, "--receive.hashrings-algorithm=" + algorithm, fmt.Sprintf("--receive.replication-factor=%d", copies),
		"--tsdb.out-of-order.time-window=2h",
	}, flags...)
	for i, p := range of {
		r.start(i, p)
	}
	return r
}

// start starts node i as the given program, with the data that it has.
func (r *ring) start(i int, p program) {
	r.Helper()
	name := fmt.Sprintf("receive-%d", i)
	args := append([]string{
		"--tsdb.path=" + r.mkdir(name), fmt.Sprintf(`--label=replica="%d"`, i), "--receive.local-endpoint=" + r.nodes[i].grpc,
	}, r.flags...)
	r.nodes[i] = r.runAt(r.nodes[i], p, "receive", name, args...)
}

// write sends one sample of each of n series through node i, each time a second later, and
// returns the status. Each name of a tenant is a metric of its own.
func (r *ring) write(i, n int, tenant string) int {
	r.Helper()
	var series []prompb.TimeSeries
	for k := range n {
		series = append(series, harness.TimeSeries([]prompb.Sample{{Timestamp: r.wrote.UnixMilli(), Value: float64(k)}},
			"__name__", "written", "series", fmt.Sprint(k), "tenant", tenant))
	}
	w := harness.Writer{URL: "http://" + r.nodes[i].write + "/api/v1/receive", Header: http.Header{"Thanos-Tenant": {tenant}}}
	code, err := w.Write(series)
	if code == 0 {
		require.NoError(r, err)
	}
	if code/100 == 2 {
		r.wrote = r.wrote.Add(time.Second)
	}
	return code
}

// written writes until node i acknowledges, which it does once it reaches its peers.
func (r *ring) written(i, n int, tenant string) {
	r.Helper()
	eventually(r.T, 30*time.Second, func() error {
		if code := r.write(i, n, tenant); code/100 != 2 {
			return fmt.Errorf("node %d answers %d", i, code)
		}
		return nil
	})
}

// counts asks for the number of the results of an expression, per replica, without deduplication.
func counts(t *testing.T, q *node, expr string, at time.Time) string {
	t.Helper()
	ans, err := harness.API{Base: q.url(), Params: map[string][]string{"dedup": {"false"}}}.Instant(expr, at)
	require.NoError(t, err)
	var b strings.Builder
	for _, s := range ans.Series {
		fmt.Fprintf(&b, "%s=%s ", s.Labels["replica"], s.Samples[0].V)
	}
	return b.String()
}

// All nodes of a ring agree on the owner of a series, whichever program they are.
func TestRing_PlacementIsEqual(t *testing.T) {
	for _, algorithm := range []string{"hashmod", "ketama"} {
		t.Run(algorithm, func(t *testing.T) {
			s := newSite(t)
			r := s.newRing(algorithm, 1, []program{thanos, hindsight, thanos, hindsight})
			q := s.querier(hindsight, "query", r.nodes)
			theirs := s.querier(thanos, "thanos-query", r.nodes)
			for i := range r.nodes {
				r.written(i, 200, "a")
				r.written(i, 50, "b")
			}
			at := r.wrote
			for tenant, n := range map[string]string{"a": "200", "b": "50"} {
				// Queriers see the first sample of a tenant when they ask the receiver the next time.
				eventually(t, 20*time.Second, func() error {
					if got := counts(t, q, fmt.Sprintf(`count(count_over_time(written{tenant_id=%q}[5m]) == 4)`, tenant), at); got != "="+n+" " {
						return fmt.Errorf("%s series of tenant %s have all samples", got, tenant)
					}
					return nil
				})
				require.Equal(t, "="+n+" ", counts(t, q, fmt.Sprintf(`count({__name__="written",tenant_id=%q})`, tenant), at), "one owner of each series, whichever node got it")
			}
			eventually(t, 20*time.Second, func() error {
				if got := counts(t, theirs, `count(written)`, at); got != "=250 " {
					return fmt.Errorf("%s has %s series", theirs.Name, got)
				}
				return nil
			})
			require.Equal(t, 4, strings.Count(counts(t, q, `count by (replica) (written)`, at), "="), "each node owns series")
			same(t, theirs, q, ask("/api/v1/series", "match[]", "written", "dedup", "false"), ask("/api/v1/label/series/values"), ask("/api/v1/labels"))
			same(t, theirs, q, each(atTime(at, `written`, `written[5m]`, `sum by (tenant_id) (written)`), "dedup", "false")...)
		})
	}
}

// zoned adds the zone a or b to every other endpoint.
func zoned(ends []string) []string {
	out := make([]string, len(ends))
	for i, e := range ends {
		out[i] = strings.TrimSuffix(e, "}") + fmt.Sprintf(`, "az": "%c"}`, 'a'+i%2)
	}
	return out
}

// Zones, parts of a ring for each tenant, and several rings with matchers of tenants choose the same
// owners in both programs, with one copy and with two.
func TestRing_PlacementIsEqualInParts(t *testing.T) {
	all := func(ends []string) string { return strings.Join(ends, ", ") }
	for name, configure := range map[string]func(ends []string) string{
		"zones": func(ends []string) string { return `[{"endpoints": [` + all(zoned(ends)) + `]}]` },
		"shards": func(ends []string) string {
			return `[{"endpoints": [` + all(ends) + `], "shuffle_sharding_config": {"shard_size": 2}}]`
		},
		"shards of zones": func(ends []string) string {
			return `[{"endpoints": [` + all(zoned(ends)) + `], "shuffle_sharding_config": {"shard_size": 2, "cache_size": 1, "overrides": [{"shard_size": 4, "tenants": ["b*"], "tenant_matcher_type": "glob"}]}}]`
		},
		"shards that ignore zones": func(ends []string) string {
			return `[{"endpoints": [` + all(zoned(ends)) + `], "shuffle_sharding_config": {"shard_size": 3, "zone_awareness_disabled": true}}]`
		},
		"several rings": func(ends []string) string {
			return `[{"hashring": "one", "tenants": ["a"], "endpoints": [` + all(ends[:2]) + `]},
				{"hashring": "two", "tenants": ["[bc]"], "tenant_matcher_type": "glob", "algorithm": "hashmod", "endpoints": [` + all(ends[1:3]) + `]},
				{"hashring": "rest", "endpoints": [` + all(ends[2:]) + `]}]`
		},
	} {
		for copies := 1; copies <= 2; copies++ {
			t.Run(fmt.Sprint(name, " with copies ", copies), func(t *testing.T) {
				s := newSite(t)
				r := s.newRingFile(configure, "ketama", copies, []program{thanos, hindsight, thanos, hindsight})
				q := s.querier(hindsight, "query", r.nodes)
				tenants := []string{"a", "b", "c", "d"}
				for _, tenant := range tenants {
					for i := range r.nodes {
						r.written(i, 60, tenant)
					}
				}
				for _, tenant := range tenants {
					// Each of two owners has all samples of its series.
					eventually(t, 20*time.Second, func() error {
						whole := counts(t, q, fmt.Sprintf(`count(count by (series, replica) (count_over_time(written{tenant_id=%q}[9m]) == 4))`, tenant), r.wrote)
						any := counts(t, q, fmt.Sprintf(`count(count by (series, replica) (count_over_time(written{tenant_id=%q}[9m])))`, tenant), r.wrote)
						if want := fmt.Sprintf("=%d ", 60*copies); whole != want || any != want {
							return fmt.Errorf("tenant %s: %s series have all samples, of %s, want %s", tenant, whole, any, want)
						}
						return nil
					})
				}
			})
		}
	}
}

// A ring of both programs with three copies acknowledges by quorum through either, over gRPC and
// Cap'n Proto, has every copy, and both queriers see the same.
func TestRing_QuorumOfBothPrograms(t *testing.T) {
	for _, protocol := range []string{"protobuf", "capnproto"} {
		t.Run(protocol, func(t *testing.T) {
			s := newSite(t)
			r := s.newRing("ketama", 3, []program{thanos, hindsight, thanos}, "--receive.replication-protocol="+protocol)
			ours, theirs := s.querier(hindsight, "query", r.nodes), s.querier(thanos, "thanos-query", r.nodes)
			for i := range r.nodes {
				r.written(i, 100, "a")
				r.written(i, 100, "a")
			}
			for _, q := range []*node{ours, theirs} {
				eventually(t, 20*time.Second, func() error {
					if got := counts(t, q, `count by (replica) (count_over_time(written[5m]) == 6)`, r.wrote); got != "0=100 1=100 2=100 " {
						return fmt.Errorf("%s: series with all samples by node: %s", q.Name, got)
					}
					return nil
				})
			}
			same(t, theirs, ours, each(atTime(r.wrote, `written[5m]`), "dedup", "false")...)
			same(t, theirs, ours, atTime(r.wrote, `written`, `sum(written)`, `written[5m]`, `count(written)`)...)
			r.nodes[2].Kill()
			for i := range 2 {
				require.Equal(t, 2, r.write(i, 100, "a")/100, "two of three, through %s", r.nodes[i].program)
			}
			same(t, theirs, ours, atTime(r.wrote, `written`, `count(written)`)[:1]...)
		})
	}
}

// The nodes of a ring become this program one by one, and Thanos again, with their directories:
// no sample is lost and none is there twice.
func TestRing_NodesChangeTheirProgram(t *testing.T) {
	s := newSite(t)
	bucket := s.bucket("bucket")
	r := s.newRing("ketama", 3, []program{thanos, thanos, thanos}, bucket)
	written := 0
	step := func() {
		for i := range r.nodes {
			r.written(i, 30, "a")
			written++
		}
	}
	step()
	for _, p := range programs() {
		for i := range r.nodes {
			s.stop(r.nodes[i])
			r.written((i+1)%3, 30, "a") // the node misses this one
			written++
			r.start(i, p)
			step()
		}
	}
	stores := append([]*node{}, r.nodes...)
	for _, p := range programs() {
		stores = append(stores, s.run(p, "store", string(p)+"-store", bucket, "--data-dir="+s.mkdir(string(p)+"-store")))
	}
	q := s.querier(hindsight, "query", stores)
	eventually(t, 20*time.Second, func() error {
		ans, err := q.api().Instant(`count(count_over_time(written[1h]) == `+fmt.Sprint(written)+`)`, r.wrote)
		if err != nil {
			return err
		}
		if len(ans.Series) != 1 || ans.Series[0].Samples[0].V != "30" {
			return fmt.Errorf("%v of 30 series have all %d samples", ans.Series, written)
		}
		return nil
	})
	// A querier of Thanos may skip samples where it merges copies and overlapping chunks.
	ids := map[string]bool{}
	for _, m := range metasOf(t, s.path("bucket")) {
		key := fmt.Sprint(m.ExternalLabels(), m.MinTime, m.MaxTime, m.Stats.NumSamples)
		require.False(t, ids[key], "a block is there twice: %s", key)
		ids[key] = true
	}
}

// A request whose series belong to several tenants reaches all of them through either program.
func TestRing_SplitsTenantsByLabel(t *testing.T) {
	for _, protocol := range []string{"protobuf", "capnproto"} {
		t.Run(protocol, func(t *testing.T) {
			s := newSite(t)
			r := s.newRing("ketama", 2, []program{thanos, hindsight}, "--receive.split-tenant-label-name=team", "--receive.replication-protocol="+protocol)
			for i := range 4 {
				var series []prompb.TimeSeries
				for k := range 40 {
					series = append(series, harness.TimeSeries([]prompb.Sample{{Timestamp: r.wrote.UnixMilli(), Value: 1}},
						"__name__", "split", "series", fmt.Sprint(k), "team", fmt.Sprintf("team-%d", k%4)))
				}
				w := harness.Writer{URL: "http://" + r.nodes[i%2].write + "/api/v1/receive"}
				eventually(t, 30*time.Second, func() error { _, err := w.Write(series); return err })
				r.wrote = r.wrote.Add(time.Second)
			}
			q := s.querier(hindsight, "query", r.nodes)
			eventually(t, 20*time.Second, func() error {
				got := counts(t, q, `count by (replica) (count_over_time(split{tenant_id=~"team-.",team=""}[5m]) == 4)`, r.wrote)
				if got != "0=40 1=40 " {
					return fmt.Errorf("series with all samples by node: %s", got)
				}
				return nil
			})
		})
	}
}
