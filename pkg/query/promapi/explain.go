package promapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// ExplainRequest is a query to explain; Step is 0 for an instant query at Start.
type ExplainRequest struct {
	Query      string
	Start, End time.Time
	Step       time.Duration
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
