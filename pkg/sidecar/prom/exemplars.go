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
func (c *Client) Exemplars(ctx context.Context, q ExemplarQuery) ([]exemplar.QueryResult, []string, error) {
	if len(q.Selectors) == 0 {
		return nil, nil, nil
	}
	terms := make([]string, 0, len(q.Selectors))
	for _, ms := range q.Selectors {
		terms = append(terms, selector(ms))
	}
	var data []struct {
		SeriesLabels labels.Labels  `json:"seriesLabels"`
		Exemplars    []jsonExemplar `json:"exemplars"`
	}
	ws, err := c.api(ctx, http.MethodPost, "/api/v1/query_exemplars", url.Values{
		"query": {strings.Join(terms, " + ")},
		"start": {formatTime(q.MinTime)},
		"end":   {formatTime(q.MaxTime)},
	}, &data)
	if err != nil {
		return nil, nil, err
	}
	out := make([]exemplar.QueryResult, 0, len(data))
	for _, d := range data {
		r := exemplar.QueryResult{SeriesLabels: d.SeriesLabels, Exemplars: make([]exemplar.Exemplar, 0, len(d.Exemplars))}
		for _, e := range d.Exemplars {
			r.Exemplars = append(r.Exemplars, exemplar.Exemplar{
				Labels: e.Labels, Value: float64(e.Value), Ts: int64(math.Round(e.Seconds * 1000)), HasTs: true,
			})
		}
		out = append(out, r)
	}
	return out, ws, nil
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
