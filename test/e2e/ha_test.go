package e2e

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// value evaluates a query that gives one number.
func value(a harness.API, query string) (string, []string, error) {
	ans, err := a.Instant(query, time.Time{})
	if err != nil {
		return "", nil, err
	}
	if len(ans.Series) != 1 {
		return "", ans.Warnings, fmt.Errorf("%s: %d series instead of one (warnings %q)", query, len(ans.Series), ans.Warnings)
	}
	return ans.Series[0].Samples[0].V, ans.Warnings, nil
}

func expect(a harness.API, query, want string) error {
	got, warnings, err := value(a, query)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s is %s, not %s (warnings %q)", query, got, want, warnings)
	}
	return nil
}

// An HA pair counts once with dedup and twice without, and when one replica dies
// the other answers alone, with a warning that names the missing store.
func TestHAPair(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Endpoints = []string{"sidecar-eu-a", "sidecar-eu-b"}
	require.NoError(t, s.Start("node", "s3", "prometheus-eu-a", "prometheus-eu-b", "sidecar-eu-a", "sidecar-eu-b", "query"))
	dedup := harness.API{Base: s.URL("query")}
	every := harness.API{Base: s.URL("query"), Params: url.Values{"dedup": {"false"}}}

	const count = `count(up{job="node"})`
	eventually(t, time.Minute, func() error { return expect(every, count, "2") })
	require.NoError(t, expect(dedup, count, "1"))

	ans, err := dedup.Instant(`up{job="node"}`, time.Time{})
	require.NoError(t, err)
	require.Len(t, ans.Series, 1)
	require.Equal(t, "eu", ans.Series[0].Labels["cluster"])
	require.NotContains(t, ans.Series[0].Labels, "replica")
	ans, err = every.Instant(`up{job="node"}`, time.Time{})
	require.NoError(t, err)
	require.Len(t, ans.Series, 2)
	require.Equal(t, "a", ans.Series[0].Labels["replica"])
	require.Equal(t, "b", ans.Series[1].Labels["replica"])

	// Without the flag's labels the caller can name others.
	own := harness.API{Base: s.URL("query"), Params: url.Values{"replicaLabels[]": {"no_such_label"}}}
	require.NoError(t, expect(own, count, "2"))

	began := time.Now().Add(-10 * time.Second)
	s.Proc("prometheus-eu-b").Kill()
	s.Proc("sidecar-eu-b").Kill()
	missing := s.Addr("sidecar-eu-b/grpc")
	eventually(t, 30*time.Second, func() error {
		ans, err := dedup.Instant(count, time.Time{})
		if err != nil {
			return err
		}
		if !strings.Contains(strings.Join(ans.Warnings, " "), missing) {
			return fmt.Errorf("the warnings %q do not name %s", ans.Warnings, missing)
		}
		return nil
	})
	time.Sleep(10 * time.Second) // data that only replica a has
	require.NoError(t, expect(dedup, count, "1"))
	end := time.Now()
	ans, err = dedup.Range(count, began, end, time.Second)
	require.NoError(t, err)
	require.Len(t, ans.Series, 1)
	for i, sample := range ans.Series[0].Samples {
		require.Equal(t, "1", sample.V)
		require.InDelta(t, ans.Series[0].Samples[0].T+float64(i), sample.T, 0.01, "a gap while one replica was away")
	}
	last := ans.Series[0].Samples[len(ans.Series[0].Samples)-1].T
	require.InDelta(t, float64(end.UnixMilli())/1000, last, 1, "the end is missing")

	strict := harness.API{Base: s.URL("query"), Params: url.Values{"partial_response": {"false"}}}
	_, err = strict.Instant(count, time.Time{})
	require.ErrorContains(t, err, missing, "a strict query must not be answered in part")
}
