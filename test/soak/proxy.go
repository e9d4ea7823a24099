package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// bucketFault is what goes wrong with a share of the requests of one client.
type bucketFault struct {
	mode  string
	share float64
	ended chan struct{} // closed when the fault ends
}

// proxy is the way of one process to the bucket. It sees each request, lets some of them
// fail, and shows the process another clock of the bucket.
type proxy struct {
	client string
	watch  func(event)
	rev    *httputil.ReverseProxy

	mu    sync.Mutex
	fault *bucketFault
	skew  time.Duration
	hurt  int // requests that the fault concerned
}

// event is a change of an object that the bucket has carried out, or the attempt to read a
// deletion mark.
type event struct {
	client string
	get    bool // read, not changed; of deletion marks only
	put    bool // else deleted
	key    string
	at     time.Time // when the request came
}

// bucketName is the bucket on the S3 server.
const bucketName = "hindsight"

// newProxy passes requests on to the S3 server at upstream.
func newProxy(client, upstream string, dial func(ctx context.Context, network, address string) (net.Conn, error), watch func(event)) *proxy {
	p := &proxy{client: client, watch: watch}
	p.rev = &httputil.ReverseProxy{
		// The signature of a request covers its host, which is that of the proxy.
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", upstream, r.In.Host
		},
		Transport:      &http.Transport{DialContext: dial, DisableCompression: true, MaxIdleConnsPerHost: 16, IdleConnTimeout: 20 * time.Second},
		ErrorLog:       log.New(io.Discard, "", 0),
		ModifyResponse: p.clock,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			panic(http.ErrAbortHandler) // the server is away: so is the proxy
		},
	}
	return p
}

// set begins a fault, or ends it with nil.
func (p *proxy) set(f *bucketFault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault != nil {
		close(p.fault.ended)
	}
	p.fault = f
}

// setSkew changes the clock of the bucket.
func (p *proxy) setSkew(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.skew = d
}

func (p *proxy) current() (f *bucketFault, skew time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f = p.fault
	if f != nil && rand.Float64() >= f.share {
		f = nil
	}
	if f != nil {
		p.hurt++
	}
	return f, p.skew
}

// ServeHTTP passes a request on.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	f, _ := p.current()
	if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/"+block.DeletionMarkFile) {
		p.watch(event{client: p.client, get: true, key: objectKey(r.URL.Path), at: at})
	}
	keys, r := deleted(r)
	send := func(w http.ResponseWriter) {
		rec := &recorder{ResponseWriter: w}
		p.rev.ServeHTTP(rec, r)
		if rec.status/100 == 2 {
			p.report(r, keys, at)
		}
	}
	if f == nil {
		send(w)
		return
	}
	switch f.mode {
	case bucketError:
		failS3(w, http.StatusInternalServerError, "InternalError")
	case bucketSlowDown:
		failS3(w, http.StatusServiceUnavailable, "SlowDown")
	case bucketReset:
		panic(http.ErrAbortHandler)
	case bucketHang:
		select {
		case <-f.ended:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case bucketLost:
		send(&discard{header: http.Header{}})
		failS3(w, http.StatusInternalServerError, "InternalError")
	case bucketSlow:
		send(&slowWriter{ResponseWriter: w, ended: f.ended})
	case bucketCut:
		send(&cutWriter{ResponseWriter: w})
	case bucketFlip:
		if r.Method == http.MethodGet && checksummed(r.URL.Path) {
			w = &flipWriter{ResponseWriter: w}
		}
		send(w)
	}
}

// checksummed says whether readers can find a wrong bit in the object: JSON has no checksums.
func checksummed(path string) bool {
	return strings.HasSuffix(path, "/index") || strings.Contains(path, "/chunks/")
}

// failS3 answers with an error as S3 does.
func failS3(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>the soak test</Message></Error>`, code)
}

// deleted are the keys that a request deletes; the request is returned with its body.
func deleted(r *http.Request) ([]string, *http.Request) {
	if r.Method == http.MethodDelete {
		return []string{objectKey(r.URL.Path)}, r
	}
	if r.Method != http.MethodPost || !r.URL.Query().Has("delete") {
		return nil, r
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 8<<20))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var request struct {
		Object []struct{ Key string }
	}
	if err := xml.Unmarshal(body, &request); err != nil {
		return nil, r
	}
	var keys []string
	for _, o := range request.Object {
		keys = append(keys, o.Key)
	}
	return keys, r
}

func objectKey(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, "/"+bucketName), "/")
}

// report tells the watcher which objects a request has changed. Parts of an upload are no
// objects.
func (p *proxy) report(r *http.Request, deletedKeys []string, at time.Time) {
	q := r.URL.Query()
	for _, k := range deletedKeys {
		if !q.Has("uploadId") {
			p.watch(event{client: p.client, key: k, at: at})
		}
	}
	whole := r.Method == http.MethodPut && !q.Has("partNumber")
	if whole || r.Method == http.MethodPost && q.Has("uploadId") {
		p.watch(event{client: p.client, put: true, key: objectKey(r.URL.Path), at: at})
	}
}

// times are the times of objects in a listing.
var times = regexp.MustCompile(`<LastModified>([^<]*)</LastModified>`)

// clock moves all times in an answer.
func (p *proxy) clock(resp *http.Response) error {
	p.mu.Lock()
	skew := p.skew
	p.mu.Unlock()
	if skew == 0 {
		return nil
	}
	for _, h := range []string{"Date", "Last-Modified"} {
		if t, err := http.ParseTime(resp.Header.Get(h)); err == nil {
			resp.Header.Set(h, t.Add(skew).UTC().Format(http.TimeFormat))
		}
	}
	if !strings.Contains(resp.Header.Get("Content-Type"), "xml") {
		return nil
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	body = times.ReplaceAllFunc(body, func(m []byte) []byte {
		t, err := time.Parse(time.RFC3339, string(times.FindSubmatch(m)[1]))
		if err != nil {
			return m
		}
		return []byte("<LastModified>" + t.Add(skew).UTC().Format("2006-01-02T15:04:05.000Z") + "</LastModified>")
	})
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return nil
}

// serve answers on l until it is closed.
func (p *proxy) serve(l net.Listener) error {
	srv := &http.Server{Handler: p, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 10 * time.Second}
	if err := srv.Serve(l); !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("proxy of %s: %w", p.client, err)
	}
	return nil
}
