package query

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/requestid"
)

// Stores admit the calls of one id together, so a client that sends one id with many
// queries must not be admitted once.
func TestRequests_OfOneClientIDHaveIDsOfTheirOwn(t *testing.T) {
	r := newRequests(newMemoryBudget(1<<20, nil), newTenantLimits(fetchLimits{}), nil)
	httpReq := httptest.NewRequest(http.MethodGet, "/api/v1/query?query=up", nil)
	require.NoError(t, httpReq.ParseForm())
	seen := map[string]bool{}
	for range 3 {
		ctx, end := r.begin(requestid.NewContext(t.Context(), "mine"), requestInfoOf(httpReq))
		id := requestid.FromContext(ctx)
		require.True(t, strings.HasPrefix(id, "mine."), id)
		require.False(t, seen[id])
		seen[id] = true
		require.Equal(t, "mine", accountOf(ctx).about.requestID)
		end()
	}
	ctx, end := r.begin(requestid.NewContext(t.Context(), "of-a-querier"), callInfo(t.Context(), "up"))
	require.Equal(t, "of-a-querier", requestid.FromContext(ctx))
	end()
}
