package prom

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
)

// ExemplarQuery chooses the exemplars of series that any of the selectors
// matches, between two inclusive times in milliseconds.
type ExemplarQuery struct {
	Selectors        [][]*labels.Matcher
	MinTime, MaxTime int64
}

// Exemplars returns the exemplars that the server has in memory, with the stored
// labels of their series, without external labels.
func (c *Client) Exemplars(ctx context.Context, q ExemplarQuery) (Answer[[]exemplar.QueryResult], error) {
	var out Answer[[]exemplar.QueryResult]
	if len(q.Selectors) == 0 {
		return out, nil
	}
	got, err := ask[[]struct {
		SeriesLabels labels.Labels  `json:"seriesLabels"`
		Exemplars    []jsonExemplar `json:"exemplars"`
	}](ctx, c, maxExemplars, apiRequest{http.MethodPost, "/api/v1/query_exemplars", url.Values{
		"query": {q.Text()},
		"start": {formatTime(q.MinTime)},
		"end":   {formatTime(q.MaxTime)},
	}})
	if err != nil {
		return out, err
	}
	out.Warnings, out.Bytes = got.Warnings, got.Bytes
	out.Data = make([]exemplar.QueryResult, 0, len(got.Data))
	for _, d := range got.Data {
		r := exemplar.QueryResult{SeriesLabels: d.SeriesLabels, Exemplars: make([]exemplar.Exemplar, 0, len(d.Exemplars))}
		for _, e := range d.Exemplars {
			r.Exemplars = append(r.Exemplars, exemplar.Exemplar{
				Labels: e.Labels, Value: float64(e.Value), Ts: int64(math.Round(e.Seconds * 1000)), HasTs: true,
			})
		}
		out.Data = append(out.Data, r)
	}
	return out, nil
}

// Text is the PromQL expression of the selectors.
func (q *ExemplarQuery) Text() string {
	terms := make([]string, 0, len(q.Selectors))
	for _, ms := range q.Selectors {
		terms = append(terms, selector(ms))
	}
	return strings.Join(terms, " + ")
}

// jsonExemplar is an exemplar as the API prints it.
type jsonExemplar struct {
	Labels  labels.Labels `json:"labels"`
	Value   textFloat     `json:"value"`
	Seconds float64       `json:"timestamp"`
}

// textFloat is a number written as a string, because JSON has no infinities.
type textFloat float64

// UnmarshalJSON reads the string.
func (f *textFloat) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("value of an exemplar: %w", err)
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return fmt.Errorf("value of an exemplar: %w", err)
	}
	*f = textFloat(v)
	return nil
}
