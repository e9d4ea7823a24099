package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// s3 is a server that knows one object, and a proxy before it.
func s3(t *testing.T) (p *proxy, url string, events *[]string) {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Query().Has("list-type"):
			w.Header().Set("Content-Type", "application/xml")
			fmt.Fprint(w, "<Contents><LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>")
		case r.URL.Path == "/hindsight/refused":
			w.WriteHeader(http.StatusForbidden)
		default:
			fmt.Fprint(w, r.Host, strings.Repeat("x", 1000))
		}
	}))
	t.Cleanup(srv.Close)
	events = &[]string{}
	var d net.Dialer
	p = newProxy("compact-1", strings.TrimPrefix(srv.URL, "http://"), d.DialContext, func(e event) {
		*events = append(*events, fmt.Sprint(e.client, " ", e.put, " ", e.key))
	})
	front := httptest.NewServer(p)
	t.Cleanup(front.Close)
	return p, front.URL, events
}

func ask(t *testing.T, method, url, body string) (status int, text string, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func TestProxy_ReportsChangesThatTheBucketCarriedOut(t *testing.T) {
	_, url, events := s3(t)
	for _, r := range [][3]string{
		{"PUT", "/hindsight/a/meta.json", ""}, {"GET", "/hindsight/a/index", ""}, {"PUT", "/hindsight/refused", ""}, {"GET", "/hindsight/a/deletion-mark.json", ""},
		{"PUT", "/hindsight/a/chunks/1?partNumber=1&uploadId=x", ""}, {"POST", "/hindsight/a/chunks/1?uploadId=x", ""},
		{"DELETE", "/hindsight/a/index", ""}, {"DELETE", "/hindsight/a/chunks/1?uploadId=x", ""},
		{"POST", "/hindsight?delete", "<Delete><Object><Key>a/b</Key></Object><Object><Key>c</Key></Object></Delete>"},
	} {
		_, _, err := ask(t, r[0], url+r[1], r[2])
		require.NoError(t, err)
	}
	require.Equal(t, []string{
		"compact-1 true a/meta.json", "compact-1 false a/deletion-mark.json", "compact-1 true a/chunks/1", "compact-1 false a/index",
		"compact-1 false a/b", "compact-1 false c",
	}, *events)
	_, text, err := ask(t, "GET", url+"/hindsight/a", "")
	require.NoError(t, err)
	require.Contains(t, text, strings.TrimPrefix(url, "http://"), "the signature covers the host of the proxy")
}

func TestProxy_LetsRequestsFail(t *testing.T) {
	p, url, events := s3(t)
	_, sound, err := ask(t, "GET", url+"/hindsight/a/index", "")
	require.NoError(t, err)
	for mode, check := range map[string]func(status int, text string, err error){
		bucketError: func(status int, _ string, _ error) { require.Equal(t, 500, status) },
		bucketSlowDown: func(status int, text string, _ error) {
			require.Equal(t, 503, status)
			require.Contains(t, text, "<Code>SlowDown</Code>")
		},
		bucketReset: func(_ int, _ string, err error) { require.Error(t, err) },
		bucketCut:   func(_ int, _ string, err error) { require.ErrorIs(t, err, io.ErrUnexpectedEOF) },
		bucketLost:  func(status int, _ string, _ error) { require.Equal(t, 500, status) },
		bucketFlip: func(_ int, text string, err error) {
			require.NoError(t, err)
			require.Len(t, text, len(sound))
			require.NotEqual(t, sound, text)
		},
	} {
		f := &bucketFault{mode: mode, share: 1, ended: make(chan struct{})}
		p.set(f)
		check(ask(t, "GET", url+"/hindsight/a/index", ""))
		if mode == bucketLost {
			_, _, err := ask(t, "PUT", url+"/hindsight/a/meta.json", "")
			require.NoError(t, err)
			require.Len(t, *events, 1, "the bucket has carried it out")
		}
		p.set(nil)
		_, text, err := ask(t, "GET", url+"/hindsight/a/index", "")
		require.NoError(t, err)
		require.Equal(t, sound, text)
	}
	hang := &bucketFault{mode: bucketHang, share: 1, ended: make(chan struct{})}
	p.set(hang)
	before := p.hurt
	done := make(chan error)
	// The client does not repeat a PUT by itself.
	go func() { _, _, err := ask(t, "PUT", url+"/hindsight/a", "x"); done <- err }()
	require.Eventually(t, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.hurt > before }, 10*time.Second, time.Millisecond)
	p.set(nil)
	require.Error(t, <-done)
}

func TestProxy_MovesTheClockOfTheBucket(t *testing.T) {
	p, url, _ := s3(t)
	p.setSkew(-time.Hour)
	_, text, err := ask(t, "GET", url+"/hindsight?list-type=2", "")
	require.NoError(t, err)
	require.Contains(t, text, "<LastModified>2026-01-02T02:04:05.000Z</LastModified>")
	resp, err := http.Get(url + "/hindsight/a")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	at, err := http.ParseTime(resp.Header.Get("Date"))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(-time.Hour), at, time.Minute)
}
