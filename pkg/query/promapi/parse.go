package promapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Defaults hold for what a request does not say.
type Defaults struct {
	Params
	// AutoDownsampling makes "auto" the default of max_source_resolution.
	AutoDownsampling bool
	// InstantResolution is the automatic resolution of instant queries.
	InstantResolution time.Duration
	// Step is the smallest default step of a range query.
	Step time.Duration
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
		if err := r.ParseForm(); err != nil {
			writeError(w, http.StatusBadRequest, "bad_data", fmt.Errorf("parse the parameters: %w", err))
			return
		}
		d := a.cfg.Defaults
		d.fill(r.URL.Path, r.Form, a.cfg.Now())
		if isLabelPath(r.URL.Path) {
			if err := checkRange(r.Form); err != nil {
				writeError(w, http.StatusBadRequest, "bad_data", err)
				return
			}
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
		if a.cfg.Timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, a.cfg.Timeout)
			defer cancel()
		}
		if a.cfg.Begin != nil {
			var end func()
			ctx, end = a.cfg.Begin(ctx)
			defer end()
		}
		next.ServeHTTP(w, r.WithContext(NewContext(ctx, p)))
	})
}

// tenant returns the context of the request with its tenant, and the matcher of
// what that may see, which may be nil.
func (a *API) tenant(r *http.Request) (context.Context, *labels.Matcher, error) {
	if a.cfg.Tenant == nil {
		return r.Context(), nil, nil
	}
	return a.cfg.Tenant(r)
}

// forTenant puts what the tenant may see into the context of a request that
// reads nothing from the stores.
func (a *API) forTenant(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, enforced, err := a.tenant(r)
		if err != nil {
			writeError(w, http.StatusBadRequest, "bad_data", err)
			return
		}
		next.ServeHTTP(w, r.WithContext(NewContext(ctx, Params{Enforced: enforced})))
	})
}

// checkRange refuses a range that ends before it starts. What is no time at all
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
	case strings.HasSuffix(path, "/query_range"):
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

func isLabelPath(path string) bool {
	return strings.HasSuffix(path, "/labels") || strings.HasSuffix(path, "/values") || strings.HasSuffix(path, "/series")
}

// parse reads the parameters beyond those of Prometheus. Every error names the
// parameter and says what is wrong with it.
func (d Defaults) parse(path string, form url.Values, promql parser.Parser) (Params, error) {
	p := d.Params
	if strings.HasSuffix(path, "/federate") {
		p.PartialResponse = false
	}
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
		var err error
		p.ReplicaLabels, err = parseNames(names)
		check("replicaLabels[]", err)
	}
	if e := form.Get("engine"); e != "" && e != "prometheus" && e != "thanos" {
		check("engine", fmt.Errorf("%q is not an engine (choose prometheus or thanos)", e))
	}
	if s := form["storeMatch[]"]; len(s) > 0 {
		sets, err := promql.ParseMetricSelectors(s)
		check("storeMatch[]", err)
		p.StoreMatchers = sets
	}
	var err error
	p.Shard, err = parseShard(form.Get("shard_info"))
	check("shard_info", err)
	p.MaxSourceResolution, err = d.resolution(path, form)
	check("max_source_resolution", err)
	if l := form.Get("lookback_delta"); l != "" {
		_, err := parseDuration(l)
		check("lookback_delta", err)
	}
	return p, errors.Join(errs...)
}

// resolution returns the coarsest acceptable resolution in milliseconds.
func (d Defaults) resolution(path string, form url.Values) (int64, error) {
	val := form.Get("max_source_resolution")
	auto := val == "auto" || d.AutoDownsampling
	var res float64
	if auto {
		if strings.HasSuffix(path, "/query_range") {
			if step, err := parseDuration(form.Get("step")); err == nil {
				res = step / 5
			}
		} else {
			res = d.InstantResolution.Seconds()
		}
	}
	if val != "" && val != "auto" {
		var err error
		if res, err = parseDuration(val); err != nil {
			return 0, err
		}
	}
	if res < 0 {
		return 0, errors.New("a negative resolution is not accepted; try a positive duration, or auto")
	}
	return int64(res * 1000), nil
}

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

func parseNames(names []string) ([]string, error) {
	var out []string
	for _, list := range names {
		for name := range strings.SplitSeq(list, ",") {
			if name == "" {
				continue
			}
			if !model.UTF8Validation.IsValidLabelName(name) {
				return nil, fmt.Errorf("%q is not a label name", name)
			}
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func parseShard(s string) (*Shard, error) {
	if s == "" {
		return nil, nil
	}
	var shard Shard
	if err := json.Unmarshal([]byte(s), &shard); err != nil {
		return nil, err
	}
	if shard.Total < 1 || shard.Index < 0 || shard.Index >= shard.Total {
		return nil, fmt.Errorf("shard_index %d is not one of the %d of total_shards", shard.Index, shard.Total)
	}
	return &shard, nil
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
