package receive

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Until the storage is open and the ring is loaded, every endpoint answers 503 with
// the reason, and nothing is stored.
func TestNotReady_EveryEndpointAnswers503(t *testing.T) {
	cfg := DefaultConfig()
	cfg.TSDB.Path = t.TempDir()
	cfg.Hashrings, cfg.LocalEndpoint = `[{"endpoints": ["127.0.0.1:1"]}]`, "127.0.0.1:1"
	require.NoError(t, cfg.Validate())
	r, err := New(cfg, Deps{Registerer: prometheus.NewRegistry()})
	require.NoError(t, err)
	mux := http.NewServeMux()
	r.RegisterWrite(mux)
	refused := func(why string) {
		require.ErrorContains(t, r.Ready(), why)
		for path, contentType := range map[string]string{
			"/api/v1/receive": "", "/api/v1/push": "application/x-protobuf", "/api/v1/write": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
			"/api/v1/otlp": "application/x-protobuf", "/otlp/v1/metrics": "application/json",
		} {
			req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(string(v1(t, time.Now().UnixMilli(), "a"))))
			req.Header.Set("Content-Type", contentType)
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, req)
			require.Equal(t, 503, w.Code, path)
			require.Equal(t, "5", w.Header().Get("Retry-After"), path)
			require.Contains(t, w.Body.String(), why, path)
		}
	}
	refused("the storage to open")
	// The storage itself refuses writes of peers.
	buf := remotewrite.NewBuffer(0)
	b, err := remotewrite.ScanV1(buf, nil)
	require.NoError(t, err)
	defer b.Close()
	require.Equal(t, remotewrite.NotReady, remotewrite.KindOf(r.db.Write(t.Context(), "a", b, nil)))
	reads := func() error {
		req := &storeapi.Request{MaxTime: 1, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "a")}}
		set := r.Store().Select(t.Context(), req)
		require.False(t, set.Next())
		_, _, errNames := r.Store().LabelNames(t.Context(), req)
		_, _, errMetadata := r.Metadata().Metadata(t.Context(), "", -1)
		_, _, errStatus := r.TSDBStatus().TSDBStatus(t.Context(), &storeapi.TSDBStatusRequest{})
		first := set.Err()
		for _, err := range []error{errNames, errMetadata, errStatus} {
			require.Equal(t, first == nil, err == nil, err)
		}
		return errors.Join(first, set.Close())
	}
	require.ErrorIs(t, reads(), storeapi.ErrUnavailable, "tenants that are not open yet would be missing")
	require.NoError(t, r.db.Open(t.Context()))
	require.NoError(t, reads())
	r.waitFor("the hashring")
	refused("the hashring")
	require.NoError(t, r.loadRing(t.Context()))
	r.ready.Store(nil)
	require.Equal(t, 200, func() int {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v1/receive", strings.NewReader(string(v1(t, time.Now().UnixMilli(), "a")))))
		return w.Code
	}())
	r.waitFor("its end: it is stopping")
	refused("stopping")
	require.NoError(t, r.writer.Close())
	require.NoError(t, r.db.Close(t.Context()))
	refused("stopping")
	require.Equal(t, remotewrite.NotReady, remotewrite.KindOf(r.db.Write(t.Context(), "a", b, nil)))
}
