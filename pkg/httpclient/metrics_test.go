package httpclient

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

func TestMeasured_CountsByCodeAndMethod(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(srv.Close)
	reg := prometheus.NewRegistry()
	c := http.Client{Transport: Measured(http.DefaultTransport, reg, "prometheus")}
	resp, err := c.Get(srv.URL)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP http_client_requests_total HTTP requests, by status code and method.
# TYPE http_client_requests_total counter
http_client_requests_total{client="prometheus",code="200",method="get"} 0
http_client_requests_total{client="prometheus",code="200",method="post"} 0
http_client_requests_total{client="prometheus",code="404",method="get"} 1
`), "http_client_requests_total"))
}
