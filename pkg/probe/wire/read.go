package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/hindsight-io/hindsight/pkg/probe"
)

// maxAnswer bounds the size of an answer.
const maxAnswer = 64 << 20

// Reader asks a server with the HTTP API of Prometheus. It is safe for concurrent use.
type Reader struct {
	// Base is the URL before /api/v1.
	Base   string
	Client *http.Client
	Header http.Header
}

// Ask is a request: an expression or selector and a time range in Unix milliseconds.
type Ask struct {
	Selector    string
	From, Until int64
	Dedup       bool
}

// params returns the parameters that all endpoints share. The server must not leave out
// data silently, and a querier of Thanos does so only without partial_response.
func (a Ask) params(more ...string) url.Values {
	p := url.Values{"dedup": {strconv.FormatBool(a.Dedup)}, "partial_response": {"false"}}
	for i := 0; i+1 < len(more); i += 2 {
		p.Set(more[i], more[i+1])
	}
	return p
}

// seconds returns a time as the API takes it.
func seconds(ms int64) string { return fmt.Sprintf("%d.%03d", ms/1000, ms%1000) }

// Instant evaluates the selector at Until.
func (r *Reader) Instant(ctx context.Context, a Ask) ([]probe.Found, error) {
	return r.query(ctx, "/api/v1/query", a.params("query", a.Selector, "time", seconds(a.Until)))
}

// Range evaluates the selector from From until Until; step is in milliseconds.
func (r *Reader) Range(ctx context.Context, a Ask, step int64) ([]probe.Found, error) {
	return r.query(ctx, "/api/v1/query_range", a.params("query", a.Selector, "start", seconds(a.From), "end", seconds(a.Until), "step", seconds(step)))
}

// Raw returns the samples from From until Until with their timestamps. A range selector
// excludes its begin since Prometheus 3, so it begins a millisecond earlier.
func (r *Reader) Raw(ctx context.Context, a Ask) ([]probe.Found, error) {
	return r.query(ctx, "/api/v1/query", a.params("query", fmt.Sprintf("%s[%dms]", a.Selector, a.Until-a.From+1), "time", seconds(a.Until)))
}

// Series lists the series of a range.
func (r *Reader) Series(ctx context.Context, a Ask) (out []probe.Found, err error) {
	var sets []map[string]string
	if err := r.get(ctx, "/api/v1/series", a.params("match[]", a.Selector, "start", seconds(a.From), "end", seconds(a.Until)), &sets); err != nil {
		return nil, err
	}
	for _, s := range sets {
		out = append(out, probe.Found{Labels: s})
	}
	return out, nil
}

// Names lists the values of __name__ of a range.
func (r *Reader) Names(ctx context.Context, a Ask) (out []string, err error) {
	err = r.get(ctx, "/api/v1/label/__name__/values", a.params("match[]", a.Selector, "start", seconds(a.From), "end", seconds(a.Until)), &out)
	return out, err
}

// Exemplars lists the exemplars of a range.
func (r *Reader) Exemplars(ctx context.Context, a Ask) (out []probe.FoundExemplar, err error) {
	var data []struct {
		SeriesLabels map[string]string `json:"seriesLabels"`
		Exemplars    []struct {
			Labels    map[string]string `json:"labels"`
			Value     string            `json:"value"`
			Timestamp float64           `json:"timestamp"`
		} `json:"exemplars"`
	}
	if err := r.get(ctx, "/api/v1/query_exemplars", a.params("query", a.Selector, "start", seconds(a.From), "end", seconds(a.Until)), &data); err != nil {
		return nil, err
	}
	for _, s := range data {
		for _, e := range s.Exemplars {
			v, err := strconv.ParseFloat(e.Value, 64)
			if err != nil {
				return nil, fmt.Errorf("decode the value of an exemplar: %w", err)
			}
			out = append(out, probe.FoundExemplar{Labels: s.SeriesLabels, TraceID: e.Labels[traceLabel], Value: v, Time: int64(math.Round(e.Timestamp * 1000))})
		}
	}
	return out, nil
}

// Federate reads the newest samples of the selector as text.
func (r *Reader) Federate(ctx context.Context, a Ask) (out []probe.Found, err error) {
	body, err := r.body(ctx, "/federate", a.params("match[]", a.Selector))
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(body)))
	if err != nil {
		return nil, fmt.Errorf("decode the answer of /federate: %w", err)
	}
	for name, f := range families {
		for _, m := range f.Metric {
			one := probe.Found{Labels: map[string]string{"__name__": name}}
			for _, l := range m.Label {
				one.Labels[l.GetName()] = l.GetValue()
			}
			// The text has the types that the server knows, so the value may be in any field.
			v := m.GetUntyped().GetValue()
			switch {
			case m.Gauge != nil:
				v = m.Gauge.GetValue()
			case m.Counter != nil:
				v = m.Counter.GetValue()
			}
			one.Points = []probe.Point{{Time: m.GetTimestampMs(), Text: probe.FloatText(v)}}
			out = append(out, one)
		}
	}
	return out, nil
}

// apiSeries is one series of an answer to a query.
type apiSeries struct {
	Metric     map[string]string    `json:"metric"`
	Value      *[2]json.RawMessage  `json:"value"`
	Values     [][2]json.RawMessage `json:"values"`
	Histogram  *[2]json.RawMessage  `json:"histogram"`
	Histograms [][2]json.RawMessage `json:"histograms"`
}

// query decodes the answer to a query.
func (r *Reader) query(ctx context.Context, path string, p url.Values) (out []probe.Found, err error) {
	var data struct {
		Result []apiSeries `json:"result"`
	}
	if err := r.get(ctx, path, p, &data); err != nil {
		return nil, err
	}
	for _, s := range data.Result {
		one := probe.Found{Labels: s.Metric}
		if s.Value != nil {
			s.Values = append(s.Values, *s.Value)
		}
		if s.Histogram != nil {
			s.Histograms = append(s.Histograms, *s.Histogram)
		}
		for _, decode := range []struct {
			points [][2]json.RawMessage
			text   func(json.RawMessage) (string, error)
		}{{s.Values, floatText}, {s.Histograms, histogramText}} {
			for _, raw := range decode.points {
				var at float64
				text, err := decode.text(raw[1])
				if err := errors.Join(err, json.Unmarshal(raw[0], &at)); err != nil {
					return nil, fmt.Errorf("decode a sample of %s: %w", path, err)
				}
				one.Points = append(one.Points, probe.Point{Time: int64(math.Round(at * 1000)), Text: text})
			}
		}
		out = append(out, one)
	}
	return out, nil
}

// floatText returns the canonical text of a float.
func floatText(raw json.RawMessage) (string, error) {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", err
	}
	f, err := strconv.ParseFloat(s, 64)
	return probe.FloatText(f), err
}

// histogramText returns the canonical text of a native histogram.
func histogramText(raw json.RawMessage) (string, error) {
	var h struct {
		Count   string               `json:"count"`
		Sum     string               `json:"sum"`
		Buckets [][4]json.RawMessage `json:"buckets"`
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		return "", err
	}
	count, err1 := strconv.ParseFloat(h.Count, 64)
	sum, err2 := strconv.ParseFloat(h.Sum, 64)
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	var buckets []probe.Bucket
	for _, b := range h.Buckets {
		var v [3]float64
		for i := range v {
			var s string
			if err := json.Unmarshal(b[i+1], &s); err != nil {
				return "", err
			}
			var err error
			if v[i], err = strconv.ParseFloat(s, 64); err != nil {
				return "", err
			}
		}
		buckets = append(buckets, probe.Bucket{Lower: v[0], Upper: v[1], Count: v[2]})
	}
	return probe.HistogramText(count, sum, buckets), nil
}

// get asks an endpoint and decodes its data. An answer with warnings is an error: the
// server says itself that it is not complete.
func (r *Reader) get(ctx context.Context, path string, p url.Values, data any) error {
	body, err := r.body(ctx, path, p)
	if err != nil {
		return err
	}
	var a struct {
		Status   string          `json:"status"`
		Data     json.RawMessage `json:"data"`
		Error    string          `json:"error"`
		Warnings []string        `json:"warnings"`
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return fmt.Errorf("decode the answer of %s: %w", path, err)
	}
	switch {
	case a.Status != "success":
		return fmt.Errorf("%s: %s", path, a.Error)
	case len(a.Warnings) > 0:
		return fmt.Errorf("%s: the answer has warnings: %s", path, strings.Join(a.Warnings, "; "))
	}
	if err := json.Unmarshal(a.Data, data); err != nil {
		return fmt.Errorf("decode the data of %s: %w", path, err)
	}
	return nil
}

// body asks an endpoint and returns its answer.
func (r *Reader) body(ctx context.Context, path string, p url.Values) (_ []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(r.Base, "/")+path+"?"+p.Encode(), nil)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	maps.Copy(req.Header, r.Header)
	resp, err := r.Client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", path, err)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch err := errors.Join(err, resp.Body.Close()); {
	case err != nil:
		return nil, fmt.Errorf("read the answer of %s: %w", path, err)
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("the answer of %s has more than %d bytes: make --recent shorter or --series smaller", path, maxAnswer)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s: %s: %.*s", path, resp.Status, maxErrorText, body)
	}
	return body, nil
}
