package prom

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hindsight-io/hindsight/pkg/httpclient"
)

// Client talks to one Prometheus server. It may be used concurrently.
type Client struct {
	base *url.URL
	http *http.Client
	live *liveness
}

// New makes a client of the server at base, which may have a path prefix. It
// does not connect. The caller closes it.
func New(base *url.URL, cfg httpclient.Config, userAgent string) (*Client, error) {
	if base == nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, fmt.Errorf("%q is not the URL of a Prometheus server; write it as http://host:port/prefix", base)
	}
	rt, err := httpclient.NewRoundTripper(cfg, userAgent)
	if err != nil {
		return nil, err
	}
	probes, err := httpclient.NewRoundTripper(cfg, userAgent)
	if err != nil {
		return nil, err
	}
	c := &Client{base: base}
	shown := *base
	shown.User = nil // credentials of the URL are those of http.Client
	c.live = newLiveness(rt, probes, (&Client{base: &shown}).url("/api/v1/status/buildinfo", nil))
	c.http = &http.Client{Transport: c.live}
	return c, nil
}

// Measure counts and times the requests of c in reg. It is called before the first
// request.
func (c *Client) Measure(reg prometheus.Registerer) {
	c.http.Transport = httpclient.Measured(c.http.Transport, reg, "prometheus")
}

// URL is the server's base URL, without credentials and parameters.
func (c *Client) URL() string { return httpclient.Shown(c.base) }

// Close frees the connections, after the last call has returned.
func (c *Client) Close() {
	c.live.stop()
	c.http.CloseIdleConnections()
}

// maxJSONBody bounds a JSON answer that is read into memory. Only a list of series
// can come near it.
const maxJSONBody = 1 << 30

// url returns the address of an API path whose segments are already escaped.
func (c *Client) url(path string, query url.Values) string {
	u := *c.base
	escaped := strings.TrimSuffix(u.EscapedPath(), "/") + path
	u.RawPath = escaped
	if p, err := url.PathUnescape(escaped); err == nil {
		u.Path = p
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// apiWarnings are the warnings of the server about a usable answer.
type apiWarnings []string

// api sends a request to the HTTP API and decodes the data of the answer. With POST
// the query is sent as a form, so that no limit of the URL applies.
func (c *Client) api(ctx context.Context, method, path string, query url.Values, data any) (apiWarnings, error) {
	ws, _, err := c.apiUpTo(ctx, maxJSONBody, apiRequest{method, path, query}, data)
	return ws, err
}

// Answer is the data of an answer that may be kept.
type Answer[T any] struct {
	Data T
	// Warnings are those of the server.
	Warnings []string
	// Bytes is the length of the JSON, which is about the memory of Data.
	Bytes int64
}

// ask is api for an Answer, with a bound for its JSON in bytes.
func ask[T any](ctx context.Context, c *Client, limit int64, r apiRequest) (Answer[T], error) {
	var a Answer[T]
	var err error
	a.Warnings, a.Bytes, err = c.apiUpTo(ctx, limit, r, &a.Data)
	return a, err
}

// apiRequest is a request to the HTTP API.
type apiRequest struct {
	method, path string
	query        url.Values
}

// apiUpTo is api with a bound for the answer, in bytes. It also returns their number.
func (c *Client) apiUpTo(ctx context.Context, limit int64, r apiRequest, data any) (apiWarnings, int64, error) {
	op := "ask " + r.path
	resp, err := c.do(ctx, op, r.method, r.path, r.query)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()

	envelope := struct {
		Status   string   `json:"status"`
		Error    string   `json:"error"`
		Data     any      `json:"data"`
		Warnings []string `json:"warnings"`
	}{Data: data}
	body := &limitedReader{r: resp.Body, left: limit}
	if err := json.NewDecoder(body).Decode(&envelope); err != nil {
		return nil, 0, fmt.Errorf("%s: decode the answer: %w", op, err)
	}
	if envelope.Status != "success" {
		return nil, 0, &Error{Op: op, Status: resp.StatusCode, Msg: envelope.Error}
	}
	return envelope.Warnings, limit - body.left, nil
}

// do sends one request and returns an answer of status 2xx. The caller closes the
// body.
func (c *Client) do(ctx context.Context, op, method, path string, query url.Values) (*http.Response, error) {
	var body io.Reader
	u := c.url(path, query)
	if method == http.MethodPost {
		u = c.url(path, nil)
		body = strings.NewReader(query.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return c.send(op, req)
}

func (c *Client) send(op string, req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		// The text of url.Error repeats the whole query string.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, fmt.Errorf("%s at %s: %w", op, c.URL(), err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, errorFrom(op, resp)
	}
	return resp, nil
}

// limitedReader fails at the limit instead of ending.
type limitedReader struct {
	r    io.Reader
	left int64
}

var errTooLarge = errors.New("answer is larger than allowed")

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	return n, err
}
