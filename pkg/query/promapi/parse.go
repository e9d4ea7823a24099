package promapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// Defaults hold for what a request over HTTP does not have.
type Defaults struct {
	queryopts.Defaults
	// Step is the smallest default step of a range query.
	Step time.Duration
	// FederatePartial, RemoteReadPartial and AlertPartial stand for PartialResponse
	// in requests to /federate, of remote read, and of Grafana's rules.
	FederatePartial, RemoteReadPartial, AlertPartial bool
	// LabelRange is how far back labels and series are looked for when a
	// request has no start; 0 means everything.
	LabelRange time.Duration
}

// reading puts the parameters of the request into its context, or answers that
// they are wrong.
func (a *API) reading(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.cfg.Ready != nil {
			if err := a.cfg.Ready(); err != nil {
				writeError(w, http.StatusServiceUnavailable, "unavailable", fmt.Errorf("not ready: %w", err))
				return
			}
		}
		if err := parseForm(r); err != nil {
			writeError(w, http.StatusBadRequest, "bad_data", err)
			return
		}
		d := a.cfg.Defaults
		d.PartialResponse = d.partialOf(r)
		d.fill(r.URL.Path, r.Form, a.cfg.Now())
		if isLabelPath(r.URL.Path) || isRangePath(r.URL.Path) {
			if err := checkRange(r.Form); err != nil {
				writeError(w, http.StatusBadRequest, "bad_data", err)
				return
			}
		}
		if err := a.checkSteps(r); err != nil {
			writeError(w, http.StatusBadRequest, "bad_data", err)
			return
		}
		p, err := d.parse(r.URL.Path, r.Form, a.cfg.Parser)
		if err != nil {
			writeError(w, http.StatusBadRequest, "bad_data", err)
			return
		}
		ctx, enforced, err := a.tenant(r)
		if err != nil {
			writeError(w, http.StatusBadRequest, "bad_data", err)
			return
		}
		p.Enforced = enforced
		if d := a.timeout(r); d > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, d)
			defer cancel()
		}
		if a.cfg.Begin != nil {
			var end func()
			ctx, end = a.cfg.Begin(r.WithContext(ctx))
			defer end()
		}
		ctx = withConnection(withExecution(ctx, r), w)
		next.ServeHTTP(w, r.WithContext(queryopts.NewContext(ctx, p)))
	})
}

// timeout bounds the whole request, the printing of the answer included; 0 means that
// nothing does. The handler refuses a parameter that is no duration.
func (a *API) timeout(r *http.Request) time.Duration {
	d := a.cfg.Timeout
	if !isInstantPath(r.URL.Path) && !isRangePath(r.URL.Path) {
		return d
	}
	seconds, err := parseDuration(r.Form.Get("timeout"))
	if own := inSeconds(seconds); err == nil && own > 0 && (d <= 0 || own < d) {
		return own
	}
	return d
}

// tenant returns the context of the request with its tenant, and the matcher that
// the tenant is restricted to, which may be nil.
func (a *API) tenant(r *http.Request) (context.Context, *labels.Matcher, error) {
	if a.cfg.Tenant == nil {
		return r.Context(), nil, nil
	}
	return a.cfg.Tenant(r)
}

// forTenant puts the restriction of the tenant into the context of a request that
// reads nothing from the stores.
func (a *API) forTenant(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, enforced, err := a.tenant(r)
		if err != nil {
			writeError(w, http.StatusBadRequest, "bad_data", err)
			return
		}
		next.ServeHTTP(w, r.WithContext(queryopts.NewContext(ctx, queryopts.Options{Enforced: enforced})))
	})
}

// maxParameters bounds the parameters of a request. The package url has the same
// bound, and does not name it.
const maxParameters = 10_000

// parseForm parses the parameters of a request, of which there may not be too many.
func parseForm(r *http.Request) error {
	if n := strings.Count(r.URL.RawQuery, "&") + 1; n > maxParameters {
		return fmt.Errorf("%d parameters are more than the %d that one request may have", n, maxParameters)
	}
	if err := r.ParseForm(); err != nil {
		return fmt.Errorf("parse the parameters: %w", err)
	}
	return nil
}

// checkSteps refuses a range query of too many steps, and a step below the millisecond
// in which engines count. A value that is no number is refused by the handler.
func (a *API) checkSteps(r *http.Request) error {
	if !isRangePath(r.URL.Path) {
		return nil
	}
	start, err1 := parseTime(r.Form.Get("start"))
	end, err2 := parseTime(r.Form.Get("end"))
	step, err3 := parseDuration(r.Form.Get("step"))
	valid := errors.Join(err1, err2, err3) == nil && step > 0
	if valid && inSeconds(step) < time.Millisecond {
		return errors.New(`invalid parameter "step": it is less than a millisecond`)
	}
	if n := (end - start) / step; valid && a.cfg.RangeSteps > 0 && n > float64(a.cfg.RangeSteps) {
		return fmt.Errorf("invalid parameter \"step\": %.0f steps exceed the limit of %d (--query.max-range-steps); use a larger step or a shorter range", n, a.cfg.RangeSteps)
	}
	return nil
}

// checkRange refuses a range that ends before it starts. A value that is no time
// is refused by the handler.
func checkRange(form url.Values) error {
	start, err1 := parseTime(form.Get("start"))
	end, err2 := parseTime(form.Get("end"))
	if err1 == nil && err2 == nil && end < start {
		return errors.New(`invalid parameter "end": end timestamp must not be before start time`)
	}
	return nil
}

// fill adds the parameters of the Prometheus API that have a default here and
// none there.
func (d Defaults) fill(path string, form url.Values, now time.Time) {
	switch {
	case isRangePath(path):
		if form.Get("step") != "" {
			return
		}
		start, err1 := parseTime(form.Get("start"))
		end, err2 := parseTime(form.Get("end"))
		if err1 == nil && err2 == nil {
			step := max(math.Floor((end-start)/250), d.Step.Seconds())
			form.Set("step", strconv.FormatFloat(step, 'f', -1, 64))
		}
	case isLabelPath(path):
		if d.LabelRange > 0 && form.Get("start") == "" {
			// Before the end, where the request says one.
			if end, err := parseTime(form.Get("end")); err == nil && end < float64(now.Unix()) {
				now = time.UnixMilli(int64(end * 1000))
			}
			form.Set("start", strconv.FormatFloat(float64(now.Add(-d.LabelRange).UnixMilli())/1000, 'f', 3, 64))
		}
	}
}

// isInstantPath reports whether a path is that of instant queries or of their
// explanations: the same parameters mean the same for both.
func isInstantPath(path string) bool {
	return strings.HasSuffix(path, "/query") || strings.HasSuffix(path, "/query_explain")
}

// isRangePath is isInstantPath for range queries.
func isRangePath(path string) bool {
	return strings.HasSuffix(path, "/query_range") || strings.HasSuffix(path, "/query_range_explain")
}

func isLabelPath(path string) bool {
	return strings.HasSuffix(path, "/labels") || strings.HasSuffix(path, "/values") || strings.HasSuffix(path, "/series")
}

// parse reads the parameters beyond those of Prometheus. Every error names the
// parameter and its error.
func (d Defaults) parse(path string, form url.Values, promql parser.Parser) (queryopts.Options, error) {
	p := d.Request()
	var errs []error
	check := func(name string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("invalid parameter %q: %w", name, err))
		}
	}
	check("dedup", parseBool(form.Get("dedup"), &p.Dedup))
	check("partial_response", parseBool(form.Get("partial_response"), &p.PartialResponse))
	var analyze bool
	check("analyze", parseBool(form.Get("analyze"), &analyze))
	if names, ok := form["replicaLabels[]"]; ok {
		check("replicaLabels[]", p.SetReplicaLabels(strings.Split(strings.Join(names, ","), ",")))
	}
	if e := form.Get("engine"); e != "" && e != "prometheus" && e != "thanos" {
		check("engine", fmt.Errorf("%q is not an engine (choose prometheus or thanos)", e))
	}
	if s := form["storeMatch[]"]; len(s) > 0 {
		sets, err := promql.ParseMetricSelectors(s)
		check("storeMatch[]", err)
		p.StoreMatchers = sets
	}
	check("shard_info", setShard(&p, form.Get("shard_info")))
	check("max_source_resolution", d.setResolution(&p, path, form))
	if l := form.Get("lookback_delta"); l != "" {
		_, err := parseDuration(l)
		check("lookback_delta", err)
	}
	return p, errors.Join(errs...)
}

// setResolution sets the coarsest acceptable resolution.
func (d Defaults) setResolution(p *queryopts.Options, path string, form url.Values) error {
	val := form.Get("max_source_resolution")
	var resolution time.Duration
	switch {
	case val != "" && val != "auto":
		seconds, err := parseDuration(val)
		if err != nil {
			return err
		}
		resolution = inSeconds(seconds)
	case val == "" && !d.AutoDownsampling:
	case !isRangePath(path):
		resolution = d.AutoResolution(0)
	default:
		if step, err := parseDuration(form.Get("step")); err == nil && step != 0 {
			resolution = d.AutoResolution(inSeconds(step))
		}
	}
	return p.SetMaxSourceResolution(resolution)
}

func inSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func parseBool(s string, into *bool) error {
	if s == "" {
		return nil
	}
	v, err := strconv.ParseBool(s)
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", s)
	}
	*into = v
	return nil
}

func setShard(p *queryopts.Options, s string) error {
	if s == "" {
		return nil
	}
	var shard struct {
		Index  int64    `json:"shard_index"`
		Total  int64    `json:"total_shards"`
		By     bool     `json:"by"`
		Labels []string `json:"labels"`
	}
	if err := json.Unmarshal([]byte(s), &shard); err != nil {
		return err
	}
	return p.SetShard(&storeapi.Shard{Index: shard.Index, Total: shard.Total, By: shard.By, Labels: shard.Labels})
}

// parseDuration returns seconds, from a number of seconds or a Prometheus
// duration.
func parseDuration(s string) (float64, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		// Within what fits into a time.Duration, and NaN does not.
		if !(math.Abs(f) < math.MaxInt64/1e9) {
			return 0, fmt.Errorf("%q is out of range", s)
		}
		return f, nil
	}
	d, err := model.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is neither a number of seconds nor a duration such as 5m", s)
	}
	return time.Duration(d).Seconds(), nil
}

// parseTime returns seconds since the epoch.
func parseTime(s string) (float64, error) {
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return f, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return 0, fmt.Errorf("%q is neither unix time nor RFC 3339", s)
	}
	return float64(t.UnixMilli()) / 1000, nil
}
