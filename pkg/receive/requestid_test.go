package receive

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/requestid"
)

// The id that a client sends is in the logs of the node that it writes to and of the nodes
// that get the series: over streams, and later as hints of a node that was down.
func TestRequestID_IsThatOfTheClientOnAllNodes(t *testing.T) {
	var logs [3]buffer
	var nodes [3]*member
	lis := []net.Listener{listen(t), listen(t), listen(t)}
	ring := ringOf(lis...)
	begin := func(i int, lis net.Listener) {
		cfg := DefaultConfig()
		cfg.Hashrings, cfg.ReplicationFactor = ring, 3
		cfg.ForwardTimeout = flags.Duration(2 * time.Second)
		require.NoError(t, cfg.Labels.Set(fmt.Sprintf(`replica="%d"`, i)))
		deps := Deps{Logger: slog.New(slog.NewTextHandler(&logs[i], &slog.HandlerOptions{Level: slog.LevelDebug}))}
		nodes[i] = startWith(t, cfg, lis, deps)
	}
	begin(0, lis[0])
	begin(1, lis[1])
	require.NoError(t, lis[2].Close()) // the third one is down

	mux := http.NewServeMux()
	nodes[0].RegisterWrite(mux)
	write := func(id string, ts int64) {
		w := recorded(requestid.Handler(mux), id, v1(t, ts, "a"))
		require.Less(t, w, 300)
	}
	at := time.Now().UnixMilli()
	write("client-1", at)
	sees := func(i int, id string) func() bool {
		return func() bool {
			for line := range strings.Lines(logs[i].String()) {
				if strings.Contains(line, `msg="forwarded write stored"`) && strings.Contains(line, "request_id="+id+"\n") {
					return true
				}
			}
			return false
		}
	}
	require.Eventually(t, sees(1, "client-1"), 10*time.Second, 5*time.Millisecond)
	require.Eventually(t, func() bool {
		return strings.Contains(logs[0].String(), `msg="hint written"`) && strings.Contains(logs[0].String(), "request_id=client-1")
	}, 10*time.Second, 5*time.Millisecond)

	again, err := net.Listen("tcp", lis[2].Addr().String())
	require.NoError(t, err)
	begin(2, again)
	require.Eventually(t, sees(2, "client-1"), 20*time.Second, 5*time.Millisecond, "the hint has the id")

	// A refused write has the id on both nodes too.
	require.GreaterOrEqual(t, recorded(requestid.Handler(mux), "client-2", v1(t, at-3_600_000*24, "a")), 400)
	for i, text := range []string{`msg="write failed"`, `msg="forwarded write failed"`} {
		require.Eventually(t, func() bool {
			for line := range strings.Lines(logs[i].String()) {
				if strings.Contains(line, text) && strings.Contains(line, "request_id=client-2") {
					return true
				}
			}
			return false
		}, 10*time.Second, 5*time.Millisecond, text)
	}
}

// recorded posts a write with a request id and returns the status.
func recorded(h http.Handler, id string, body []byte) int {
	r := httptest.NewRequest(http.MethodPost, "/api/v1/receive", bytes.NewReader(body))
	r.Header.Set(requestid.Header, id)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}
