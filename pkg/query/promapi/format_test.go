package promapi

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFormatQuery_RejectsDeepLongExpressions(t *testing.T) {
	f := newFixture(t, nil)
	chain := strings.Repeat("very_long_name_of_a_metric + ", 900) + "x"
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		resp, r := f.json(method, "/api/v1/format_query", values("query", chain))
		require.Equal(t, http.StatusBadRequest, resp.StatusCode)
		require.Equal(t, "bad_data", r.ErrorType)
		require.Contains(t, r.Error, "too large to be formatted")
		resp, r = f.json(method, "/api/v1/format_query", values("query", strings.Repeat("a + ", 50)+"x"))
		require.Equal(t, 200, resp.StatusCode, r.Error)
		resp, r = f.json(method, "/api/v1/format_query", values("query", "sum("))
		require.Equal(t, http.StatusBadRequest, resp.StatusCode)
		require.Contains(t, r.Error, "parse error")
	}
}
