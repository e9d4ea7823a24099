package harness

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// API is a client of a Prometheus HTTP API. Base is the URL without /api/v1.
type API struct {
	Base string
	// Params are added to every query, such as dedup=false.
	Params url.Values
	// Header is sent with every query, such as the tenant.
	Header http.Header
	// Client sends the queries; nil is one with a timeout of a minute.
	Client *http.Client
}

// Sample is one sample of a series; the value is kept as the text of the
// answer, so that comparing is exact. Histograms are kept as JSON.
type Sample struct {
	T float64
	V string
}

// Series is one series of an answer.
type Series struct {
	Labels  map[string]string
	Samples []Sample
}

// Answer is the answer to a query.
type Answer struct {
	Series   []Series
	Warnings []string
	Infos    []string
}

type envelope struct {
	Status   string          `json:"status"`
	Data     json.RawMessage `json:"data"`
	Error    string          `json:"error"`
	Warnings []string        `json:"warnings"`
	Infos    []string        `json:"infos"`
}

type apiSeries struct {
	Metric     map[string]string   `json:"metric"`
	Value      []json.RawMessage   `json:"value"`
	Values     [][]json.RawMessage `json:"values"`
	Histogram  []json.RawMessage   `json:"histogram"`
	Histograms [][]json.RawMessage `json:"histograms"`
}

// Instant evaluates a query at t; a zero t is now.
func (a API) Instant(query string, t time.Time) (Answer, error) {
	p := url.Values{"query": {query}}
	if !t.IsZero() {
		p.Set("time", formatTime(t))
	}
	return a.query("/api/v1/query", p)
}

// Range evaluates a query from start to end.
func (a API) Range(query string, start, end time.Time, step time.Duration) (Answer, error) {
	return a.query("/api/v1/query_range", url.Values{
		"query": {query}, "start": {formatTime(start)}, "end": {formatTime(end)},
		"step": {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)},
	})
}

// JSON calls an endpoint and decodes its data into v.
func (a API) JSON(path string, p url.Values, v any) error {
	env, err := a.get(path, p)
	if err != nil {
		return err
	}
	return json.Unmarshal(env.Data, v)
}

// query calls an endpoint that evaluates a query and decodes its result.
func (a API) query(path string, p url.Values) (Answer, error) {
	env, err := a.get(path, p)
	if err != nil {
		return Answer{}, err
	}
	var data struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	}
	if err := json.Unmarshal(env.Data, &data); err != nil {
		return Answer{}, fmt.Errorf("decode the answer of %s: %w", path, err)
	}
	ans := Answer{Warnings: env.Warnings, Infos: env.Infos}
	if data.ResultType == "scalar" || data.ResultType == "string" {
		var v []json.RawMessage
		if err := json.Unmarshal(data.Result, &v); err != nil {
			return Answer{}, fmt.Errorf("decode the answer of %s: %w", path, err)
		}
		ans.Series = []Series{{Samples: []Sample{sample(v)}}}
		return ans, nil
	}
	var raw []apiSeries
	if err := json.Unmarshal(data.Result, &raw); err != nil {
		return Answer{}, fmt.Errorf("decode the answer of %s: %w", path, err)
	}
	for _, s := range raw {
		ans.Series = append(ans.Series, s.series())
	}
	slices.SortFunc(ans.Series, func(x, y Series) int { return strings.Compare(x.Key(), y.Key()) })
	return ans, nil
}

func (s apiSeries) series() Series {
	out := Series{Labels: s.Metric}
	for _, one := range [][]json.RawMessage{s.Value, s.Histogram} {
		if one != nil {
			out.Samples = append(out.Samples, sample(one))
		}
	}
	for _, v := range append(s.Values, s.Histograms...) {
		out.Samples = append(out.Samples, sample(v))
	}
	slices.SortStableFunc(out.Samples, func(a, b Sample) int {
		switch {
		case a.T < b.T:
			return -1
		case a.T > b.T:
			return 1
		}
		return 0
	})
	return out
}

func sample(v []json.RawMessage) Sample {
	t, _ := strconv.ParseFloat(string(v[0]), 64)
	return Sample{T: t, V: strings.Trim(string(v[1]), `"`)}
}

// Key returns the label set as one string, with sorted names.
func (s Series) Key() string {
	names := make([]string, 0, len(s.Labels))
	for n := range s.Labels {
		names = append(names, n)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "%s=%q,", n, s.Labels[n])
	}
	return b.String()
}

// get calls an endpoint and decodes the envelope of its answer.
func (a API) get(path string, p url.Values) (envelope, error) {
	q := url.Values{}
	for k, v := range a.Params {
		q[k] = v
	}
	for k, v := range p {
		q[k] = v
	}
	req, err := http.NewRequest(http.MethodGet, a.Base+path+"?"+q.Encode(), nil)
	if err != nil {
		return envelope{}, fmt.Errorf("make a request to %s%s: %w", a.Base, path, err)
	}
	for k, v := range a.Header {
		req.Header[k] = v
	}
	client := a.Client
	if client == nil {
		client = &http.Client{Timeout: 60 * time.Second}
	}
	resp, err := client.Do(req)
	if err != nil {
		return envelope{}, fmt.Errorf("ask %s%s: %w", a.Base, path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return envelope{}, fmt.Errorf("read the answer of %s: %w", path, err)
	}
	var env envelope
	if err := json.Unmarshal(body, &env); err != nil {
		return envelope{}, fmt.Errorf("%s answered %s, not JSON: %.300s", path, resp.Status, body)
	}
	if resp.StatusCode != http.StatusOK || env.Status != "success" {
		return env, fmt.Errorf("%s answered %s: %s", path, resp.Status, env.Error)
	}
	return env, nil
}

func formatTime(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64)
}
