package prom

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// Selection chooses series: those that match all matchers and may have samples
// between MinTime and MaxTime, inclusive milliseconds. Limit bounds the number
// of results; 0 means no limit, and old servers ignore it.
type Selection struct {
	MinTime, MaxTime int64
	Matchers         []*labels.Matcher
	Limit            int
}

// The API's seconds are floating point numbers, so times are cut to the years
// 0 and 9999, which every server accepts.
const (
	minAPITime = -62167219200000
	maxAPITime = 253402300799000
)

func (s Selection) query() url.Values {
	q := url.Values{
		"start": {formatTime(s.MinTime)},
		"end":   {formatTime(s.MaxTime)},
	}
	if len(s.Matchers) > 0 {
		q.Set("match[]", selector(s.Matchers))
	}
	if s.Limit > 0 {
		q.Set("limit", strconv.Itoa(s.Limit))
	}
	return q
}

func formatTime(ms int64) string {
	ms = min(max(ms, minAPITime), maxAPITime)
	return strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64)
}

// selector prints the matchers as PromQL. The API refuses a selector that matches
// the empty label set, so such a selector gets a matcher for any metric name, which
// all stored series have.
func selector(ms []*labels.Matcher) string {
	parts := make([]string, 0, len(ms)+1)
	narrow := false
	for _, m := range ms {
		parts = append(parts, m.String())
		narrow = narrow || !m.Matches("")
	}
	if !narrow {
		parts = append(parts, model.MetricNameLabel+`=~".+"`)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// Series returns the stored label sets of the selected series, without external
// labels, in no particular order. The selection must have a matcher.
func (c *Client) Series(ctx context.Context, s Selection) ([]labels.Labels, []string, error) {
	var data []labels.Labels
	ws, err := c.api(ctx, http.MethodPost, "/api/v1/series", s.query(), &data)
	return data, ws, err
}

// LabelNames returns the sorted label names of the selected series. No matchers
// means all series.
func (c *Client) LabelNames(ctx context.Context, s Selection) ([]string, []string, error) {
	var data []string
	ws, err := c.api(ctx, http.MethodPost, "/api/v1/labels", s.query(), &data)
	slices.Sort(data)
	return data, ws, err
}

// LabelValues returns the sorted values of the label among the selected series.
// No matchers means all series.
func (c *Client) LabelValues(ctx context.Context, name string, s Selection) ([]string, []string, error) {
	if !model.LegacyValidation.IsValidLabelName(name) || strings.HasPrefix(name, "U__") {
		name = escapeLabelName(name)
	}
	var data []string
	path := "/api/v1/label/" + url.PathEscape(name) + "/values"
	ws, err := c.api(ctx, http.MethodGet, path, s.query(), &data)
	slices.Sort(data)
	return data, ws, err
}

// escapeLabelName escapes a UTF-8 label name for the path of the API: U__, doubled
// underscores, other characters as _hex_.
func escapeLabelName(name string) string {
	var b strings.Builder
	b.WriteString("U__")
	for i, r := range name {
		switch {
		case r == '_':
			b.WriteString("__")
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9' && i > 0:
			b.WriteRune(r)
		default:
			b.WriteByte('_')
			b.WriteString(strconv.FormatInt(int64(r), 16))
			b.WriteByte('_')
		}
	}
	return b.String()
}

// Metadata is the metadata of a metric as a target exposes it.
type Metadata struct {
	Type string `json:"type"`
	Help string `json:"help"`
	Unit string `json:"unit"`
}

// Metadata returns the metadata of one metric, or of all for an empty name. A
// negative limit is no limit on the number of metrics.
func (c *Client) Metadata(ctx context.Context, metric string, limit int) (Answer[map[string][]Metadata], error) {
	q := url.Values{}
	if metric != "" {
		q.Set("metric", metric)
	}
	if limit >= 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return ask[map[string][]Metadata](ctx, c, maxMetaBody, apiRequest{http.MethodGet, "/api/v1/metadata", q})
}
