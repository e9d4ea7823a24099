package interop

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// A router of either program without storage spreads writes over ingestors of both, which know no
// hashring, also while one of three is away, and a change of the file adds a node.
func TestRing_RouterOverIngestors(t *testing.T) {
	for _, router := range programs() {
		for _, protocol := range []string{"protobuf", "capnproto"} {
			t.Run(string(router)+" "+protocol, func(t *testing.T) {
				s := newSite(t)
				r := &ring{site: s, wrote: time.Now().Add(-10 * time.Minute).Truncate(time.Second)}
				var ends []string
				flags := []string{"--tsdb.out-of-order.time-window=2h", "--tsdb.max-exemplars=1000"}
				for i, p := range []program{thanos, hindsight, hindsight, thanos} {
					name := fmt.Sprintf("ingest-%d", i)
					n := s.run(p, "receive", name, append([]string{"--tsdb.path=" + s.mkdir(name), fmt.Sprintf(`--label=replica="%d"`, i)}, flags...)...)
					r.nodes = append(r.nodes, n)
					ends = append(ends, fmt.Sprintf(`{"address": %q, "capnproto_address": %q}`, n.grpc, n.capnp))
				}
				configure := func(n int) string {
					return s.file("hashring.json", `[{"endpoints": [`+strings.Join(ends[:n], ", ")+`]}]`)
				}
				front := s.run(router, "receive", "router", "--receive.hashrings-file="+configure(3), "--receive.hashrings-algorithm=ketama",
					"--receive.replication-factor=3", "--receive.replication-protocol="+protocol, "--tsdb.path="+s.mkdir("router"), `--label=replica="r"`)
				q := s.querier(hindsight, "query", r.nodes)
				rounds := 0
				write := func(n int) {
					for range n {
						rounds++
						r.wrote = r.wrote.Add(15 * time.Second)
						w := harness.Writer{URL: "http://" + front.write + "/api/v1/receive", Header: http.Header{"Thanos-Tenant": {"a"}}}
						series := everyKind(r.wrote, int64(rounds))[:5]
						eventually(t, 30*time.Second, func() error { _, err := w.Write(series); return err })
					}
				}
				all := func() {
					t.Helper()
					// Each kind has one series, of three copies; the querier merges them.
					for _, kind := range []string{"float", "histogram", "gauge_histogram", "float_histogram"} {
						eventually(t, 30*time.Second, func() error {
							ans, err := q.api().Instant(fmt.Sprintf(`count_over_time(kind_%s[2h])`, kind), r.wrote)
							if err != nil {
								return err
							}
							if len(ans.Series) != 1 || ans.Series[0].Samples[0].V != fmt.Sprint(rounds) {
								return fmt.Errorf("%s: %v of %d samples", kind, ans.Series, rounds)
							}
							return nil
						})
					}
				}
				write(3)
				all()
				r.nodes[1].Kill()
				write(3)
				r.nodes[1] = s.runAt(r.nodes[1], thanos, "receive", "ingest-1-again", r.nodes[1].args...) // with the logs of the killed one
				all()
				configure(4)
				eventually(t, 30*time.Second, func() error {
					write(1)
					if got := counts(t, q, `count by (replica) (kind_float)`, r.wrote); len(strings.Fields(got)) < 3 {
						return fmt.Errorf("copies: %s", got)
					}
					return nil
				})
				write(3)
				all()
				require.NoError(t, front.Stop(30*time.Second))
			})
		}
	}
}
