package interop

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Both queriers give the same answers over the sidecars of both programs and of one of each,
// which read the same pair of Prometheus servers.
func TestQueriers_SameAnswersOverSidecars(t *testing.T) {
	s := newSite(t)
	app := target(t, s.host)
	sidecars := map[program]map[string]*node{hindsight: {}, thanos: {}}
	for _, replica := range []string{"a", "b"} {
		prom := s.prometheus("prometheus-"+replica, s.pairConfig(replica, app, ""))
		for _, p := range programs() {
			sidecars[p][replica] = s.run(p, "sidecar", string(p)+"-sidecar-"+replica, "--prometheus.url="+prom.url(), "--tsdb.path="+s.path("prometheus-"+replica))
		}
	}
	over := map[string][]*node{
		"hindsight": {sidecars[hindsight]["a"], sidecars[hindsight]["b"]},
		"thanos":    {sidecars[thanos]["a"], sidecars[thanos]["b"]},
		"both":      {sidecars[hindsight]["a"], sidecars[thanos]["b"]},
	}
	time.Sleep(15 * time.Second)
	end := time.Now().Add(-3 * time.Second).Truncate(time.Second)
	start := end.Add(-8 * time.Second)
	var ours *node
	reference := s.querier(thanos, "thanos-query-over-thanos", over["thanos"])
	questions := append(atTime(end, expressions()...), overRange(start, end, "1", expressions()...)...)
	for _, name := range []string{"hindsight", "thanos", "both"} {
		for _, p := range programs() {
			if p == thanos && name == "thanos" {
				continue
			}
			q := s.querier(p, string(p)+"-query-over-"+name, over[name])
			t.Run(q.Name, func(t *testing.T) {
				same(t, reference, q, each(questions, "dedup", "false")...)
				same(t, reference, q, metadataQuestions(start, end)...)
				same(t, reference, q, wrongQuestions()...)
			})
			if name == "both" && p == hindsight {
				ours = q
				continue
			}
			s.stop(q)
		}
	}
	t.Run("differences", func(t *testing.T) { differences(t, reference, ours, end) })
	t.Run("a store is gone", func(t *testing.T) { lost(t, reference, ours, sidecars[thanos]["b"], end) })
}

// differences shows those answers over two sidecars in which the programs differ on purpose: the
// rows of docs/migrate-from-thanos.md.
func differences(t *testing.T, theirs, ours *node, end time.Time) {
	external := atTime(end, `count({cluster="eu"})`)[0].with("dedup", "false")
	require.NotEmpty(t, theirs.put(t, external).warnings, "Thanos refuses a selector of external labels alone")
	require.Contains(t, ours.put(t, external).raw, `"value":[`)
	for n, want := range map[*node]int{theirs: http.StatusNotFound, ours: http.StatusOK} {
		resp, err := http.Get(n.url() + "/federate?match[]=up")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, want, resp.StatusCode, n.Name)
	}
	require.Len(t, alertLabels(t, theirs, "cluster"), 0)
	require.Equal(t, []string{"eu", "eu"}, alertLabels(t, ours, "cluster"), "one alert of each kind, though the sidecars are of two programs")
	wrong := ask("/api/v1/query_exemplars", "query", "sum(")
	require.Equal(t, http.StatusInternalServerError, theirs.put(t, wrong).status)
	require.Equal(t, http.StatusBadRequest, ours.put(t, wrong).status)
	require.Equal(t, http.StatusOK, ours.put(t, ask("/api/v1/status/tsdb")).status)
	t.Logf("status/tsdb of %s: %d", theirs.Name, theirs.put(t, ask("/api/v1/status/tsdb")).status)
	sorted := overRange(end.Add(-time.Second), end, "1", "sort_desc(shop_stock)")[0]
	require.Empty(t, theirs.put(t, sorted).warnings)
	require.NotEmpty(t, ours.put(t, sorted).warnings, "a newer PromQL warns that range queries are not sorted")
}

// alertLabels returns the values of a label of all alerts that have it.
func alertLabels(t *testing.T, n *node, name string) (out []string) {
	var data struct {
		Alerts []struct{ Labels map[string]string }
	}
	require.NoError(t, n.api().JSON("/api/v1/alerts", nil, &data))
	require.NotEmpty(t, data.Alerts)
	for _, a := range data.Alerts {
		if v, ok := a.Labels[name]; ok {
			out = append(out, v)
		}
	}
	return out
}

// lost kills a sidecar: Thanos forgets it, this program says what is missing.
func lost(t *testing.T, theirs, ours, sidecar *node, end time.Time) {
	sidecar.Kill()
	q := atTime(end, `count by (replica) (up)`)[0].with("dedup", "false")
	strict := q.with("partial_response", "false")
	eventually(t, 30*time.Second, func() error {
		if got := theirs.put(t, strict); got.status != http.StatusOK {
			return fmt.Errorf("%s answers %d", theirs.Name, got.status)
		}
		return nil
	})
	require.Empty(t, theirs.put(t, q).warnings)
	got := ours.put(t, q)
	require.Equal(t, http.StatusOK, got.status)
	require.Contains(t, strings.Join(got.warnings, " "), sidecar.grpc)
	require.Empty(t, differ("", theirs.put(t, q).data, got.data))
	require.Equal(t, http.StatusUnprocessableEntity, ours.put(t, strict).status, "%s", ours.put(t, strict).raw)
}
