package e2e

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// bucketFault is what the proxy does to a request.
type bucketFault int

const (
	noFault bucketFault = iota
	// The request is not carried out.
	internalError
	slowDown
	refused     // 403, as while credentials are exchanged
	resetBefore // the connection ends
	noAnswer    // until the client gives up
	notThere    // 404 for an object that exists
	lostUpload  // acknowledged, but not stored
	// The request is carried out.
	lostAnswer // 500
	resetAfter
	slowBytes
	earlyEOF
	shortBody // with a length that fits
	wrongByte
	hideRecent   // a listing without the objects of the last second
	repeatListed // a listing with each object twice
	endOfFaults
)

func (f bucketFault) String() string {
	return [...]string{"none", "500", "503 SlowDown", "403", "connection reset", "no answer", "404 of an object that exists", "upload acknowledged and lost",
		"500 after the effect", "connection reset after the effect", "slow bytes", "early EOF", "short body", "wrong byte", "recent objects not listed",
		"objects listed twice"}[f]
}

// s3Request is a request as the proxy sees it.
type s3Request struct {
	*http.Request
	key    string // without the bucket; empty for a listing
	client string
}

func (r *s3Request) listing() bool { return r.key == "" && r.Method == http.MethodGet }
func (r *s3Request) write() bool   { return r.Method == http.MethodPut || r.Method == http.MethodDelete }

// ofBlock says whether the object is one of a block.
func (r *s3Request) ofBlock() bool {
	_, _, ok := block.ParsePath(r.key)
	return ok
}

// bucketProxy is one client's way to the S3 server.
type bucketProxy struct {
	server  *httptest.Server
	backend string
	client  string
	watch   *bucketWatch
	shift   time.Duration // of the dates that the client sees
	faults  atomic.Int64  // how many requests were disturbed

	mu sync.Mutex
	// rule is called for each request, by one goroutine at a time; nil has no faults.
	rule func(*s3Request) bucketFault
	// hold is called before a request is passed on, concurrently; nil holds none.
	hold func(*s3Request)
	// after is called when a request was carried out, before its answer.
	after func(*s3Request)
}

// newProxy starts a proxy for a client. watch sees what the server carries out.
func newProxy(t *testing.T, backend, client string, watch *bucketWatch) *bucketProxy {
	t.Helper()
	p := &bucketProxy{backend: backend, client: client, watch: watch}
	p.server = httptest.NewServer(p)
	t.Cleanup(p.server.Close)
	return p
}

func (p *bucketProxy) addr() string { return strings.TrimPrefix(p.server.URL, "http://") }

// set replaces the rule.
func (p *bucketProxy) set(rule func(*s3Request) bucketFault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule = rule
}

func (p *bucketProxy) decide(r *s3Request) (f bucketFault, hold, after func(*s3Request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rule != nil {
		f = p.rule(r)
	}
	if f != noFault {
		p.faults.Add(1)
	}
	return f, p.hold, p.after
}

func s3Error(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>injected by the test</Message></Error>`, code)
}

// ServeHTTP passes one request on, with the fault that the rule chooses.
func (p *bucketProxy) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	_, key, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	r := &s3Request{Request: req, key: key, client: p.client}
	fault, hold, after := p.decide(r)
	if hold != nil {
		hold(r)
	}
	switch fault {
	case internalError:
		s3Error(w, http.StatusInternalServerError, "InternalError")
	case slowDown:
		s3Error(w, http.StatusServiceUnavailable, "SlowDown")
	case refused:
		s3Error(w, http.StatusForbidden, "AccessDenied")
	case notThere:
		s3Error(w, http.StatusNotFound, "NoSuchKey")
	case resetBefore:
		panic(http.ErrAbortHandler)
	case noAnswer:
		select {
		case <-req.Context().Done():
		case <-time.After(10 * time.Second):
		}
		panic(http.ErrAbortHandler)
	case lostUpload:
		body, _ := io.ReadAll(req.Body)
		sum := md5.Sum(body)
		w.Header().Set("Etag", `"`+hex.EncodeToString(sum[:])+`"`)
	default:
		status, header, body, err := p.pass(r)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if after != nil {
			after(r)
		}
		p.answer(w, r, fault, status, header, body)
	}
}

// pass carries a request out.
func (p *bucketProxy) pass(r *s3Request) (status int, header http.Header, body []byte, err error) {
	sent, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, nil, nil, err // the client has gone, or was killed: nothing is stored
	}
	// Also when the client has gone meanwhile: the server has the request.
	out := r.Clone(context.WithoutCancel(r.Context()))
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", p.backend, ""
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(sent)), int64(len(sent))
	if len(sent) == 0 {
		out.Body = http.NoBody
	}
	done := p.watch.begin(r)
	resp, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(out)
	if err != nil {
		done(false)
		return 0, nil, nil, err
	}
	body, err = io.ReadAll(resp.Body)
	done(resp.StatusCode < 300)
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Header, body, err
}

// answer sends what the server has answered, with a fault.
func (p *bucketProxy) answer(w http.ResponseWriter, r *s3Request, fault bucketFault, status int, header http.Header, body []byte) {
	switch fault {
	case lostAnswer:
		s3Error(w, http.StatusInternalServerError, "InternalError")
		return
	case resetAfter:
		panic(http.ErrAbortHandler)
	}
	if p.shift != 0 {
		body = shiftDates(header, body, r.listing(), p.shift)
	}
	if status < 300 {
		switch fault {
		case wrongByte:
			if len(body) > 0 {
				body[rand.IntN(len(body))] ^= 1 << rand.IntN(8)
			}
		case shortBody:
			body = body[:len(body)/2]
		case hideRecent:
			body = p.watch.hideRecent(body)
		case repeatListed:
			body = listedObjects.ReplaceAllFunc(body, func(o []byte) []byte { return append(bytes.Clone(o), o...) })
		}
	}
	for k, v := range header {
		w.Header()[k] = v
	}
	if r.Method != http.MethodHead {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(status)
	switch {
	case fault == earlyEOF && len(body) > 1:
		_, _ = w.Write(body[:len(body)/2])
		panic(http.ErrAbortHandler)
	case fault == slowBytes:
		for piece := range 8 {
			_, _ = w.Write(body[len(body)*piece/8 : len(body)*(piece+1)/8])
			_ = http.NewResponseController(w).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	default:
		_, _ = w.Write(body)
	}
}

var (
	listedObjects = regexp.MustCompile(`(?s)<Contents>.*?</Contents>`)
	listedKey     = regexp.MustCompile(`<Key>(.*?)</Key>`)
	listedDate    = regexp.MustCompile(`<LastModified>(.*?)</LastModified>`)
)

// shiftDates changes the times of objects, in headers and listings.
func shiftDates(header http.Header, body []byte, listing bool, by time.Duration) []byte {
	for _, name := range []string{"Last-Modified", "Date"} {
		if at, err := time.Parse(http.TimeFormat, header.Get(name)); err == nil {
			header.Set(name, at.Add(by).UTC().Format(http.TimeFormat))
		}
	}
	if !listing {
		return body
	}
	return listedDate.ReplaceAllFunc(body, func(tag []byte) []byte {
		at, err := time.Parse(time.RFC3339Nano, string(listedDate.FindSubmatch(tag)[1]))
		if err != nil {
			return tag
		}
		return []byte("<LastModified>" + at.Add(by).UTC().Format("2006-01-02T15:04:05.000Z") + "</LastModified>")
	})
}

// suits says whether a fault can happen to a request.
func (f bucketFault) suits(r *s3Request) bool {
	switch f {
	case notThere:
		return !r.listing() && !r.write() && r.ofBlock()
	case lostUpload:
		return r.Method == http.MethodPut && r.ofBlock()
	case lostAnswer, resetAfter:
		return r.write()
	case slowBytes, earlyEOF:
		return r.Method == http.MethodGet
	case shortBody, wrongByte:
		// Of small JSON objects no one but the server has a checksum.
		rel := path.Base(r.key)
		return r.Method == http.MethodGet && r.ofBlock() && !strings.HasSuffix(rel, ".json")
	case hideRecent, repeatListed:
		return r.listing()
	}
	return true
}
