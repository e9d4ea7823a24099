package metamonitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/hindsight-io/hindsight/pkg/httpclient"
	"github.com/hindsight-io/hindsight/pkg/receive/tenantlimits"
)

const (
	timeout = 10 * time.Second
	// maxAnswer bounds an answer: some hundred thousand tenants.
	maxAnswer = 64 << 20
	// maxQuoted bounds the bytes of an invalid answer in an error.
	maxQuoted = 200
)

// source is a query and its API.
type source struct {
	meta   tenantlimits.Meta
	url    string
	client *http.Client
}

func newSource(m *tenantlimits.Meta, userAgent string) (*source, error) {
	e, err := parser.NewParser(parser.Options{}).ParseExpr(m.Query)
	if err != nil {
		return nil, fmt.Errorf("meta_monitoring_limit_query %q: %w", m.Query, err)
	}
	if e.Type() != parser.ValueTypeVector {
		return nil, fmt.Errorf("meta_monitoring_limit_query %q gives no instant vector", m.Query)
	}
	rt, err := httpclient.NewRoundTripper(m.Client, userAgent)
	if err != nil {
		return nil, fmt.Errorf("meta_monitoring_http_client: %w", err)
	}
	u := m.URL.JoinPath("api", "v1", "query")
	q := u.Query()
	q.Set("query", m.Query)
	// One replica of a monitored node counts.
	q.Set("dedup", "true")
	u.RawQuery = q.Encode()
	return &source{meta: *m, url: u.String(), client: &http.Client{Transport: rt, Timeout: timeout}}, nil
}

// ask returns the number of series of each tenant in the answer. Samples of one
// tenant are added up.
func (s *source) ask(ctx context.Context) (map[string]int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", httpclient.Shown(s.meta.URL), err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the query
		}
		return nil, fmt.Errorf("query %s: %w", httpclient.Shown(s.meta.URL), err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	var series map[string]int64
	if err == nil {
		series, err = decode(resp.Status, body)
	}
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", httpclient.Shown(s.meta.URL), err)
	}
	return series, nil
}

// answer is that of the query API of Prometheus.
type answer struct {
	Status string `json:"status"`
	Error  string `json:"error"`
	Data   struct {
		Type   string          `json:"resultType"`
		Result json.RawMessage `json:"result"`
	} `json:"data"`
}

type sample struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
}

// decode returns the number of series by tenant from the answer of a Prometheus
// query API. Samples of one tenant are added up; those without the label tenant, and
// negative ones, are ignored. The error quotes at most maxQuoted bytes of the
// answer.
func decode(status string, body []byte) (map[string]int64, error) {
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("%s, and no JSON: %q", status, body[:min(len(body), maxQuoted)])
	}
	if a.Status != "success" {
		return nil, fmt.Errorf("%s: %s", status, a.Error[:min(len(a.Error), maxQuoted)])
	}
	if a.Data.Type != "vector" {
		return nil, fmt.Errorf("the result is a %q, not a vector", a.Data.Type)
	}
	var samples []sample
	if err := json.Unmarshal(a.Data.Result, &samples); err != nil {
		return nil, fmt.Errorf("decode the result: %w", err)
	}
	sums := map[string]float64{}
	for _, x := range samples {
		text, _ := x.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("decode the value %q of %v", text, x.Metric)
		}
		if id := x.Metric["tenant"]; id != "" && v >= 0 {
			sums[id] += v
		}
	}
	out := make(map[string]int64, len(sums))
	for id, v := range sums {
		out[id] = int64(min(v, math.MaxInt64/2))
	}
	return out, nil
}
