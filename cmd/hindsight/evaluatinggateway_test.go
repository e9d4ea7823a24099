package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hindsight-io/hindsight/pkg/query"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/infopb"
)

// startQuery runs a querier of one store, and returns how to ask its API.
func startQuery(t *testing.T, store string, evaluation bool) func(path string, kv ...string) string {
	t.Helper()
	c := query.DefaultConfig()
	c.Endpoints.Endpoints, c.GatewayEvaluation = []string{store}, evaluation
	reg := prometheus.NewRegistry()
	q, err := query.New(c, query.Deps{Registerer: reg, Gatherer: reg})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- q.Run(ctx) }()
	mux := http.NewServeMux()
	q.RegisterHTTP(mux)
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		srv.Close()
		cancel()
		require.NoError(t, <-done)
	})
	require.Eventually(t, func() bool { return q.Ready() == nil }, time.Minute, 10*time.Millisecond)
	return func(path string, kv ...string) string {
		form := url.Values{}
		for i := 0; i < len(kv); i += 2 {
			form.Set(kv[i], kv[i+1])
		}
		resp, err := http.Get(srv.URL + path + "?" + form.Encode())
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, resp.StatusCode, "%s", body)
		return string(body)
	}
}

// The store role evaluates, unless it is told not to, and a querier of another program sees a
// store without the Query API.
func TestStore_EvaluatesQueries(t *testing.T) {
	s := newToolSite(t, twoBlocks)
	args := []string{"store", "--objstore.config=" + s.yml}
	const expr = `sum({__name__=~".+"}) + on () count({__name__=~".+"})`
	parts := func(ask func(string, ...string) string) (out []any) {
		var answer struct {
			Data struct{ Parts []any }
		}
		require.NoError(t, json.Unmarshal([]byte(ask("/api/v1/query_explain", "query", expr, "time", "0")), &answer))
		return answer.Data.Parts
	}
	on := startProgram(t, append(args, "--data-dir="+t.TempDir())...)
	off := startProgram(t, append(args, "--data-dir="+t.TempDir(), "--no-store.evaluate-queries")...)
	pushed, local := startQuery(t, on, true), startQuery(t, on, false)
	require.Eventually(t, func() bool { return len(parts(pushed)) == 1 }, time.Minute, 50*time.Millisecond)
	require.Empty(t, parts(local))
	require.Empty(t, parts(startQuery(t, off, true)))
	for _, at := range []string{"0", "0.5", "3600", "7200", "10800.25"} {
		require.Equal(t, local("/api/v1/query", "query", expr, "time", at), pushed("/api/v1/query", "query", expr, "time", at))
	}
	require.Contains(t, pushed("/api/v1/query", "query", expr, "time", "10800.25"), `"value"`)
	conn, err := grpc.NewClient(on, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	info, err := infopb.NewInfoClient(conn).Info(t.Context(), &infopb.InfoRequest{})
	require.NoError(t, err)
	require.Nil(t, info.GetQuery())
	require.Equal(t, "store", info.GetComponentType())
}
