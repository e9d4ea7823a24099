package promapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql"
	v1 "github.com/prometheus/prometheus/web/api/v1"
)

// ExplainRequest is a query to explain; Step is 0 for an instant query at Start.
type ExplainRequest struct {
	Query      string
	Start, End time.Time
	Step       time.Duration
	// Lookback is that of the request; 0 means the one of the configuration.
	Lookback time.Duration
	// Analyze says that the query is to be evaluated, for what it costs.
	Analyze bool
	// Encode prints a result as an answer would be, and returns its size in bytes.
	Encode func(*promql.Result) (int64, error)
}

// explain answers query_explain and query_range_explain: how the query would be
// evaluated.
func (a *API) explain(w http.ResponseWriter, r *http.Request) {
	req, err := a.explainRequest(r)
	var out any
	if err == nil {
		out, err = a.cfg.Explain(r.Context(), req)
	}
	if err != nil {
		writeError(w, http.StatusBadRequest, "bad_data", err)
		return
	}
	writeData(w, out, nil)
}

// explainRequest reads the parameters. A time that is not given is the present one; a
// range needs a step.
func (a *API) explainRequest(r *http.Request) (out ExplainRequest, err error) {
	out.Query = r.Form.Get("query")
	if out.Query == "" {
		return out, errors.New(`invalid parameter "query": it is empty`)
	}
	at := func(name string) (time.Time, error) {
		if r.Form.Get(name) == "" {
			return a.cfg.Now(), nil
		}
		seconds, err := parseTime(r.Form.Get(name))
		if err == nil && (seconds > 1e12 || seconds < -1e12 || seconds != seconds) {
			err = errors.New("it is out of range")
		}
		if err != nil {
			return time.Time{}, fmt.Errorf("invalid parameter %q: %w", name, err)
		}
		return time.UnixMilli(int64(seconds * 1000)), nil
	}
	// Defaults.parse has refused wrong values of these two.
	_ = parseBool(r.Form.Get("analyze"), &out.Analyze)
	if lookback, err := parseDuration(r.Form.Get("lookback_delta")); err == nil {
		out.Lookback = inSeconds(lookback)
	}
	if s := r.Form.Get("timeout"); s != "" {
		if _, err := parseDuration(s); err != nil {
			return out, fmt.Errorf("invalid parameter \"timeout\": %w", err)
		}
	}
	out.Encode = func(res *promql.Result) (int64, error) { return encodedSize(r.Context(), res) }
	if !strings.HasSuffix(r.URL.Path, "/query_range_explain") {
		out.Start, err = at("time")
		out.End = out.Start
		return out, err
	}
	var err1, err2, err3 error
	var step float64
	out.Start, err1 = at("start")
	out.End, err2 = at("end")
	if step, err3 = parseDuration(r.Form.Get("step")); err3 == nil && step <= 0 {
		err3 = errors.New(`invalid parameter "step": it must be positive`)
	}
	out.Step = inSeconds(step)
	return out, errors.Join(err1, err2, err3)
}

// Explainer says how a query would be evaluated; its result is written as JSON. Errors
// are those of the expression.
type Explainer func(context.Context, ExplainRequest) (any, error)

// encodedSize prints a result and returns its size in bytes.
func encodedSize(ctx context.Context, res *promql.Result) (int64, error) {
	to := &countingWriter{}
	out := newPages(ctx, &printing{ResponseWriter: to, ctx: ctx})
	// The end of the request must not break the connection while the answer is sent.
	defer out.close()
	out.response(&v1.Response{Status: "success", Data: &v1.QueryData{ResultType: res.Value.Type(), Result: res.Value}})
	out.end()
	return to.n, out.err
}

// countingWriter counts what is written to it.
type countingWriter struct{ n int64 }

func (w *countingWriter) Header() http.Header { return http.Header{} }
func (w *countingWriter) WriteHeader(int)     {}
func (w *countingWriter) Write(b []byte) (int, error) {
	w.n += int64(len(b))
	return len(b), nil
}
