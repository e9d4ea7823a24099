package receive

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/hindsight-io/hindsight/pkg/flags"
)

// raw writes text on a connection of its own; the caller reads the answer.
func raw(t *testing.T, m *member, text string) net.Conn {
	conn, err := net.Dial("tcp", m.RemoteWriteAddr().String())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(conn, text)
	require.NoError(t, err)
	return conn
}

func head(path, contentType string, length int) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nTHANOS-TENANT: evil\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", path, contentType, length)
}

func answerOn(t *testing.T, conn net.Conn) int {
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	defer resp.Body.Close()
	return resp.StatusCode
}

// protocols are the endpoints, with a valid body for each.
func protocols(t *testing.T) map[string]struct{ path, contentType, body string } {
	now := time.Now()
	md := pmetric.NewMetrics()
	gauge(md, "x", now)
	otlp, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
	require.NoError(t, err)
	ts := one(prompb.TimeSeries{Labels: named("x"), Samples: at(now.UnixMilli(), 1)})
	return map[string]struct{ path, contentType, body string }{
		"1.0":  {"/api/v1/receive", "application/x-protobuf", string(marshal(t, ts))},
		"2.0":  {"/api/v1/receive", version2Headers[1], string(asVersion2(t, ts.Timeseries))},
		"OTLP": {"/api/v1/otlp", "application/x-protobuf", string(otlp)},
	}
}

// A request that ends in the middle, or whose length is wrong, stores nothing.
func TestTruncatedRequest_StoresNothing(t *testing.T) {
	m := start(t, DefaultConfig(), listen(t), nil)
	for name, w := range protocols(t) {
		t.Run(name, func(t *testing.T) {
			half := w.body[:len(w.body)/2]
			conn := raw(t, m, head(w.path, w.contentType, len(w.body))+half)
			require.NoError(t, conn.(*net.TCPConn).CloseWrite())
			require.Equal(t, 400, answerOn(t, conn), "the sender stopped half way")
			conn = raw(t, m, head(w.path, w.contentType, len(half))+w.body)
			require.Equal(t, 400, answerOn(t, conn), "the length is too small")
			conn = raw(t, m, head(w.path, w.contentType, len(w.body)+5)+w.body)
			require.NoError(t, conn.(*net.TCPConn).CloseWrite())
			require.Equal(t, 400, answerOn(t, conn), "the length is too large")
			conn = raw(t, m, head(w.path, w.contentType, 1<<40))
			require.Equal(t, 413, answerOn(t, conn), "the length is absurd")
			conn = raw(t, m, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", w.path))
			require.Equal(t, 400, answerOn(t, conn))
			conn = raw(t, m, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx", w.path))
			require.Equal(t, 400, answerOn(t, conn), "an absurd chunk")
		})
	}
	require.Empty(t, series(t, m.Store()))
}

// Senders that never finish take no concurrency slot, and not all of the memory for
// bodies.
func TestSlowBodies_TakeNoConcurrencySlot(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Limits = flags.Inline("receive.limits-config", "write: {global: {max_concurrency: 2}}")
	cfg.MaxRequestBytes, cfg.MaxInflightBytes = 8<<20, 32<<20
	m := start(t, cfg, listen(t), nil)
	for name, w := range protocols(t) {
		t.Run(name, func(t *testing.T) {
			var slow []net.Conn
			for range 20 {
				slow = append(slow, raw(t, m, head(w.path, w.contentType, 4<<20)+string(make([]byte, 2<<20))))
			}
			for range 5 {
				require.Equal(t, 200, post(t, m.url("/api/v1/receive"), v1(t, time.Now().UnixMilli(), "good"), "THANOS-TENANT", "good").code)
			}
			for _, c := range slow {
				c.Close()
			}
		})
	}
	require.Equal(t, map[string]int{"good/good": 1}, series(t, m.Store()))
}
