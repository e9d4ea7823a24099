package query

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/requestid"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

func TestSlowLog_DescribesRequestsBeyondTheThreshold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		r := newRequests(newMemoryBudget(1<<20, nil), newTenantLimits(fetchLimits{}), nil)
		r.slow = slowLog{threshold: 10 * time.Second, logger: slog.New(slog.NewTextHandler(&out, nil)), stores: func() int { return 7 }}
		ask := func(took time.Duration, expression string) string {
			out.Reset()
			req := httptest.NewRequest(http.MethodGet, "/api/v1/query_range?start=1&end=2&step=15s&token=hidden&query="+url.QueryEscape(expression), nil)
			require.NoError(t, req.ParseForm())
			ctx, report := storeapi.NewReportContext(requestid.NewContext(tenant.NewContext(t.Context(), "team-a"), "mine"))
			report.Miss(storeapi.Missing{Store: "s1"})
			ctx, end := r.begin(ctx, requestInfoOf(req))
			accountOf(ctx).samples = 42
			time.Sleep(took)
			end()
			return out.String()
		}
		require.Empty(t, ask(9*time.Second, "up"))
		line := ask(11*time.Second, "sum(up)")
		for _, want := range []string{
			"level=WARN", `msg="slow query"`, "kind=query_range", "query=sum(up)", `times="start=1 end=2 step=15s"`, "tenant=team-a", "duration=11s",
			"samples=42", "stores=7", "stores_missing=1", "remote=192.0.2.1:1234", "request_id=mine",
		} {
			require.Contains(t, line, want)
		}
		require.NotContains(t, line, "hidden")
		require.Less(t, len(ask(11*time.Second, strings.Repeat("x", 1<<20))), 8<<10)
		r.slow.threshold = 0
		require.Empty(t, ask(time.Hour, "up"))
	})
}
