package httpserver

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func serve(t *testing.T, l Limits, h http.Handler) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := New(lis, h, l, nil, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	t.Cleanup(func() {
		s.Close()
		require.NoError(t, <-done)
		// The server waits half a second before it closes a refused connection.
		goleak.VerifyNone(t, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
	})
	return lis.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(conn, text)
	require.NoError(t, err)
}

func receive(t *testing.T, conn net.Conn) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func TestWrite_FailsForAClientThatReadsNothing(t *testing.T) {
	l := Defaults()
	l.StallTimeout = 200 * time.Millisecond
	failed := make(chan error, 1)
	addr := serve(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		piece := make([]byte, 1<<20)
		for {
			if _, err := w.Write(piece); err != nil {
				failed <- r.Context().Err()
				return
			}
		}
	}))
	send(t, dial(t, addr), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-failed
}

func TestWrite_FailsForAnHTTP2StreamThatIsNotRead(t *testing.T) {
	certs := httptest.NewTLSServer(http.NotFoundHandler())
	defer certs.Close()
	l := Defaults()
	l.StallTimeout = 200 * time.Millisecond
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	failed := make(chan string, 1)
	s := New(lis, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			// A pause between writes is no stall.
			_, _ = w.Write([]byte("a"))
			w.(http.Flusher).Flush()
			time.Sleep(2 * l.StallTimeout)
			_, _ = w.Write([]byte("b"))
			return
		}
		piece := make([]byte, 1<<20)
		for {
			if _, err := w.Write(piece); err != nil {
				failed <- r.Proto
				return
			}
		}
	}), l, &tls.Config{Certificates: certs.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	defer func() { s.Close(); require.NoError(t, <-done) }()
	client := certs.Client()
	client.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	resp, err := client.Get("https://" + lis.Addr().String())
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, "HTTP/2.0", <-failed)
	slow, err := client.Get("https://" + lis.Addr().String() + "/slow")
	require.NoError(t, err)
	defer slow.Body.Close()
	b, err := io.ReadAll(slow.Body)
	require.NoError(t, err)
	require.Equal(t, "ab", string(b))
}

func TestWrite_LetsASlowReaderFinish(t *testing.T) {
	const size = 8 << 20
	l := Defaults()
	l.StallTimeout = time.Second
	addr := serve(t, l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, size))
	}))
	conn := dial(t, addr)
	require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(64<<10))
	send(t, conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	resp := receive(t, conn)
	got, piece := 0, make([]byte, 256<<10)
	for {
		n, err := resp.Body.Read(piece)
		got += n
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		time.Sleep(2 * time.Millisecond) // in sum longer than the stall timeout
	}
	require.Equal(t, size, got)
}

func TestBody_TooSlowIsRefusedBeforeTheHandler(t *testing.T) {
	l := Defaults()
	l.BodyGrace = 100 * time.Millisecond
	called := make(chan struct{}, 1)
	addr := serve(t, l, l.Forms(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called <- struct{}{} })))
	conn := dial(t, addr)
	send(t, conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\na=")
	resp := receive(t, conn)
	require.Equal(t, http.StatusRequestTimeout, resp.StatusCode)
	require.Empty(t, called)
	_, err := io.Copy(io.Discard, conn)
	require.NoError(t, err, "the connection is closed")
}

func TestBody_NotReadByTheHandlerIsNotWaitedFor(t *testing.T) {
	l := Defaults()
	l.BodyGrace = 100 * time.Millisecond
	addr := serve(t, l, http.NotFoundHandler())
	conn := dial(t, addr)
	send(t, conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: x/y\r\nContent-Length: 100\r\n\r\na")
	_, err := io.Copy(io.Discard, conn)
	require.NoError(t, err, "the connection is closed although the body never comes")
}

func TestBody_DeadlineDoesNotEndALongRequest(t *testing.T) {
	l := Defaults()
	l.BodyGrace = 2 * time.Second // enough for a slow host to read the body
	addr := serve(t, l, l.Forms(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(l.BodyGrace + 500*time.Millisecond):
			fmt.Fprint(w, r.FormValue("a"))
		}
	})))
	conn := dial(t, addr)
	send(t, conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=b")
	b, err := io.ReadAll(io.LimitReader(receive(t, conn).Body, 1))
	require.NoError(t, err)
	require.Equal(t, "b", string(b))
}

func TestHeader_TooSlowIsRefused(t *testing.T) {
	l := Defaults()
	l.HeaderTimeout = 100 * time.Millisecond
	slow := dial(t, serve(t, l, http.NotFoundHandler()))
	send(t, slow, "GET / HTTP/1.1\r\nHost:")
	_, err := io.Copy(io.Discard, slow)
	require.NoError(t, err)
}

func TestHeader_TooLargeIsRefused(t *testing.T) {
	l := Defaults()
	l.MaxHeader = 16 << 10
	large := dial(t, serve(t, l, http.NotFoundHandler()))
	send(t, large, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n")
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, receive(t, large).StatusCode)
}

func TestConnections_IdleOnesAreClosedForNewOnes(t *testing.T) {
	l := Defaults()
	l.MaxConnections = 2
	addr := serve(t, l, http.NotFoundHandler())
	const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	for range 6 { // none of them is closed by its client
		conn := dial(t, addr)
		send(t, conn, request)
		require.Equal(t, http.StatusNotFound, receive(t, conn).StatusCode)
	}
}

func post(h http.Handler, contentType string, body io.Reader) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/", body)
	r.Header.Set("Content-Type", contentType)
	h.ServeHTTP(w, r)
	return w
}

func TestForms_StayInMemoryWithinTheirBounds(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	l := Defaults()
	l.MaxForm, l.MaxForms = 256<<10, 200<<10
	seen := ""
	h := l.Forms(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen = r.FormValue("a")
		b, err := io.ReadAll(r.Body)
		if err != nil || len(b) == 0 {
			seen = "the body cannot be read again"
		}
		files, _ := os.ReadDir(dir)
		if len(files) > 0 {
			seen = "a part was written to a file"
		}
	}))
	form := func(size int) (string, io.Reader) {
		var b bytes.Buffer
		m := multipart.NewWriter(&b)
		_ = m.WriteField("a", "multi")
		part, _ := m.CreateFormFile("f", "name")
		_, _ = part.Write(make([]byte, size))
		_ = m.Close()
		return m.FormDataContentType(), &b
	}
	contentType, body := form(100 << 10)
	require.Equal(t, http.StatusOK, post(h, contentType, body).Code)
	require.Equal(t, "multi", seen)
	contentType, body = form(300 << 10)
	require.Equal(t, http.StatusRequestEntityTooLarge, post(h, contentType, body).Code)

	const urlencoded = "application/x-www-form-urlencoded"
	require.Equal(t, http.StatusOK, post(h, urlencoded, strings.NewReader(url.Values{"a": {"plain"}}.Encode())).Code)
	require.Equal(t, "plain", seen)
	require.Equal(t, http.StatusRequestEntityTooLarge, post(h, urlencoded, strings.NewReader("a="+strings.Repeat("x", 300<<10))).Code)
	require.Equal(t, http.StatusBadRequest, post(h, urlencoded, strings.NewReader("a=%zz")).Code)
}

// A compressed form would be read as one without parameters.
func TestForms_CompressedOnesAreRefused(t *testing.T) {
	called := 0
	l := Defaults()
	h := l.Forms(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called++ }))
	f := func(want int, contentType, encoding string) {
		t.Helper()
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("a=b"))
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Content-Encoding", encoding)
		h.ServeHTTP(w, r)
		require.Equal(t, want, w.Code, encoding)
	}
	const urlencoded = "application/x-www-form-urlencoded"
	for _, encoding := range []string{"gzip", "zstd", "snappy", "x"} {
		f(http.StatusUnsupportedMediaType, urlencoded, encoding)
	}
	require.Zero(t, called)
	f(http.StatusOK, urlencoded, "identity")
	f(http.StatusOK, urlencoded, "")
	f(http.StatusOK, "application/x-protobuf", "snappy") // no form
}

func TestForms_AreBoundedTogetherAndSmallOnesPass(t *testing.T) {
	l := Defaults()
	l.MaxForms = 200 << 10
	inside, release := make(chan struct{}), make(chan struct{})
	h := l.Forms(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" && len(r.FormValue("a")) > freeForm && r.Header.Get("X-Wait") == "" {
			inside <- struct{}{}
			<-release
		}
	}))
	const urlencoded = "application/x-www-form-urlencoded"
	large := "a=" + strings.Repeat("x", 200<<10)
	first := make(chan int, 1)
	go func() { first <- post(h, urlencoded, strings.NewReader(large)).Code }()
	<-inside
	w := post(h, urlencoded, strings.NewReader(large))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.NotEmpty(t, w.Header().Get("Retry-After"))
	require.Equal(t, http.StatusOK, post(h, urlencoded, strings.NewReader("a=b")).Code)
	close(release)
	require.Equal(t, http.StatusOK, <-first)
	go func() { <-inside }()
	require.Equal(t, http.StatusOK, post(h, urlencoded, strings.NewReader(large)).Code, "its bytes came back")
}

func TestSameOrigin(t *testing.T) {
	h := SameOrigin(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }),
		func(r *http.Request) bool { return r.URL.Path == "/read" })
	f := func(want int, method, path string, headers ...string) {
		t.Helper()
		r := httptest.NewRequest(method, "http://server:10902"+path, nil)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, want, w.Code)
	}
	const ok, no = http.StatusNoContent, http.StatusForbidden
	f(ok, "POST", "/mark") // no browser
	f(no, "POST", "/mark", "Origin", "http://evil.example")
	f(no, "POST", "/mark", "Origin", "null")
	f(no, "DELETE", "/mark", "Sec-Fetch-Site", "cross-site")
	f(no, "POST", "/mark", "Sec-Fetch-Site", "same-site", "Origin", "http://other.server")
	f(ok, "POST", "/mark", "Sec-Fetch-Site", "same-origin", "Origin", "https://proxy.example")
	f(ok, "POST", "/mark", "Origin", "http://server:10902")
	f(ok, "POST", "/mark", "Origin", "http://proxy.example", "X-Forwarded-Host", "proxy.example")
	f(no, "POST", "/mark", "Origin", "http://evil.example", "X-Forwarded-Host", "proxy.example")
	f(no, "POST", "/mark", "Origin", "http://evil.example", "X-Forwarded-Host", "evil.example", "Sec-Fetch-Site", "cross-site")
	f(ok, "GET", "/mark", "Origin", "http://evil.example")
	f(ok, "OPTIONS", "/mark", "Origin", "http://evil.example")
	f(ok, "POST", "/read", "Origin", "http://grafana.example")
}
