package promapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
)

// deadlines counts the deadlines for writes to a connection.
type deadlines struct {
	*httptest.ResponseRecorder
	n int
}

func (d *deadlines) SetWriteDeadline(time.Time) error {
	d.n++
	return nil
}

// The size of a result is counted without the connection: the answer that has it is
// still to be sent when the context ends.
func TestEncodedSize_LeavesTheConnectionAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		ctx, cancel := context.WithCancel(withConnection(t.Context(), conn))
		n, err := encodedSize(ctx, &promql.Result{Value: promql.Scalar{T: 1000, V: 1}})
		require.NoError(t, err)
		require.Positive(t, n)
		cancel()
		synctest.Wait()
		require.Zero(t, conn.n)
	})
}

// An explanation takes the parameters of the query that it explains: the step by default,
// the resolution that follows from the step, and the timeout.
func TestExplain_ReadsParametersAsTheQuery(t *testing.T) {
	var got ExplainRequest
	var resolution int64
	var left time.Duration
	f := newFixture(t, func(c *Config) {
		c.Timeout = time.Hour
		c.Defaults.AutoDownsampling, c.Defaults.InstantResolution = true, time.Hour
		c.Explain = func(ctx context.Context, r ExplainRequest) (any, error) {
			p, _ := queryopts.FromContext(ctx)
			end, _ := ctx.Deadline()
			got, resolution, left = r, p.MaxSourceResolution, time.Until(end)
			return nil, nil
		}
	})
	explain := func(path string, more ...string) {
		t.Helper()
		resp, r := f.json(http.MethodGet, "/api/v1/"+path, values(append(more, "query", "up")...))
		require.Equal(t, 200, resp.StatusCode, r.Error)
	}
	explain("query_range_explain", "start", "0", "end", "7500", "timeout", "60s")
	require.Equal(t, 30*time.Second, got.Step)
	require.Equal(t, (6 * time.Second).Milliseconds(), resolution, "a fifth of the step")
	require.LessOrEqual(t, left, time.Minute)
	explain("query_explain", "timeout", "60s")
	require.Equal(t, time.Hour.Milliseconds(), resolution)
	require.LessOrEqual(t, left, time.Minute)

	for _, path := range []string{"query_range", "query_range_explain"} {
		for want, more := range map[string][]string{
			"end timestamp must not be before start": {"start", "200", "end", "100", "step", "1"},
			"less than a millisecond":                {"start", "100", "end", "100", "step", "0.0001"},
			`invalid parameter "timeout"`:            {"start", "100", "end", "200", "step", "1", "timeout", "x"},
		} {
			resp, r := f.json(http.MethodGet, "/api/v1/"+path, values(append(more, "query", "up")...))
			require.Equal(t, http.StatusBadRequest, resp.StatusCode, "%s %v", path, more)
			require.Contains(t, r.Error, want, path)
		}
	}
}
