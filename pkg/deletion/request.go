package deletion

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// version is the only version of requests that exists.
const version = 1

// Bounds of one request, because others may write to the bucket, too.
const (
	maxSize      = 64 << 10 // bytes of an object
	maxSelectors = 64
	maxMatchers  = 32 // of one selector
	maxPattern   = 4 << 10
	maxDetails   = 1 << 10
)

// DefaultTenantLabel is the external label that names the tenant of a receiver's data.
const DefaultTenantLabel = "tenant_id"

// Request asks for the deletion of series. It is immutable.
type Request struct {
	Version int       `json:"version"`
	ID      ulid.ULID `json:"id"`
	Created time.Time `json:"created"`
	// ApplyAfter is when the deletion becomes physical; it can be cancelled until then.
	ApplyAfter time.Time `json:"apply_after"`
	// Expires is when the request no longer applies to newly uploaded data.
	Expires time.Time `json:"expires"`
	// Tenant restricts the request to series whose label TenantLabel has that value;
	// empty is all tenants.
	Tenant      string `json:"tenant,omitempty"`
	TenantLabel string `json:"tenant_label,omitempty"`
	// Selectors are series selectors of PromQL. A series is deleted if any of them
	// matches its labels with the external ones, which override its own.
	Selectors []string `json:"selectors"`
	// MinTime and MaxTime bound the deleted samples, inclusive, in milliseconds.
	MinTime int64 `json:"mint"`
	MaxTime int64 `json:"maxt"`
	// Details is a text for people: who asked, and why.
	Details string `json:"details,omitempty"`
}

// Options are what a caller chooses of a new request.
type Options struct {
	Selectors           []string
	MinTime, MaxTime    int64
	Tenant, TenantLabel string
	Details             string
	// Delay is the time until the deletion becomes physical.
	Delay time.Duration
	// Keep is the time from then on for which the request applies to new uploads.
	Keep time.Duration
}

// Defaults of Options.
const (
	DefaultDelay = time.Hour
	// DefaultKeep is longer than the local retention of most Prometheus servers, whose
	// sidecars may upload a block again.
	DefaultKeep = 35 * 24 * time.Hour
	maxDelay    = 30 * 24 * time.Hour
	maxKeep     = 5 * 365 * 24 * time.Hour
)

// New makes a request. Samples that are newer than now are never deleted, so that a
// series that goes on starts again: MaxTime is at most now.
func New(o Options, now time.Time) (*Compiled, error) {
	switch {
	case o.Delay < 0 || o.Delay > maxDelay:
		return nil, fmt.Errorf("delay of a deletion must be from 0s to %s, not %s", maxDelay, o.Delay)
	case o.Keep < 0 || o.Keep > maxKeep:
		return nil, fmt.Errorf("a deletion can apply to new uploads for 0s to %s, not %s", maxKeep, o.Keep)
	}
	id, err := ulid.New(ulid.Timestamp(now), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("name a deletion request: %w", err)
	}
	now = now.UTC().Truncate(time.Millisecond)
	r := Request{
		Version: version, ID: id, Created: now, ApplyAfter: now.Add(o.Delay), Expires: now.Add(o.Delay + o.Keep),
		Tenant: o.Tenant, TenantLabel: o.TenantLabel, Selectors: o.Selectors, Details: o.Details,
		MinTime: o.MinTime, MaxTime: min(o.MaxTime, now.UnixMilli()),
	}
	if r.Tenant != "" && r.TenantLabel == "" {
		r.TenantLabel = DefaultTenantLabel
	}
	return compile(r)
}

// Compiled is a request with its parsed selectors. It may be used concurrently.
type Compiled struct {
	Request
	selectors [][]*labels.Matcher
}

// Matchers are those of each selector, with that of the tenant. They must not be
// changed.
func (c *Compiled) Matchers() [][]*labels.Matcher { return c.selectors }

// compile checks a request and parses its selectors.
func compile(r Request) (*Compiled, error) {
	switch {
	case r.Version != version:
		return nil, fmt.Errorf("deletion request has version %d, known is %d", r.Version, version)
	case r.ID.IsZero():
		return nil, errors.New("deletion request has no id")
	case r.Created.IsZero() || r.ApplyAfter.Before(r.Created) || r.Expires.Before(r.ApplyAfter):
		return nil, errors.New("deletion request needs created, apply_after and expires in this order")
	case r.MinTime > r.MaxTime:
		return nil, fmt.Errorf("deletion request has mint %d after maxt %d", r.MinTime, r.MaxTime)
	case r.MaxTime > r.Created.UnixMilli():
		return nil, fmt.Errorf("deletion request has maxt %d after its creation", r.MaxTime)
	case len(r.Selectors) == 0:
		return nil, errors.New("deletion request has no series selector")
	case len(r.Selectors) > maxSelectors:
		return nil, fmt.Errorf("deletion request has %d selectors, more than %d", len(r.Selectors), maxSelectors)
	case len(r.Details) > maxDetails:
		return nil, fmt.Errorf("details of the deletion request are longer than %d bytes", maxDetails)
	}
	c := &Compiled{Request: r}
	var err error
	var owner *labels.Matcher
	if r.Tenant != "" {
		if err := tenant.Validate(r.Tenant); err != nil {
			return nil, fmt.Errorf("deletion request: %w", err)
		}
		if owner, err = labels.NewMatcher(labels.MatchEqual, r.TenantLabel, r.Tenant); err != nil || r.TenantLabel == "" {
			return nil, fmt.Errorf("deletion request has a tenant, but the tenant label %q is none", r.TenantLabel)
		}
	}
	for _, text := range r.Selectors {
		ms, err := parseSelector(text)
		if err != nil {
			return nil, err
		}
		if owner != nil {
			ms = append(ms, owner)
		}
		c.selectors = append(c.selectors, ms)
	}
	return c, nil
}

// parseSelector parses a selector whose expressions are bounded in length: their
// compiled form is larger than their text.
func parseSelector(text string) ([]*labels.Matcher, error) {
	if len(text) > maxPattern {
		return nil, fmt.Errorf("series selector of a deletion is longer than %d bytes: %.60q…", maxPattern, text)
	}
	ms, err := parser.NewParser(parser.Options{}).ParseMetricSelector(text)
	if err != nil {
		return nil, fmt.Errorf("series selector %.200q of a deletion: %w", text, err)
	}
	if len(ms) > maxMatchers {
		return nil, fmt.Errorf("series selector %.60q of a deletion has %d matchers, more than %d", text, len(ms), maxMatchers)
	}
	if !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches("") }) {
		return nil, fmt.Errorf("series selector %.200q of a deletion matches series without any label: name at least one label that must exist", text)
	}
	return ms, nil
}

// parse decodes the object of request id.
func parse(data []byte, id ulid.ULID) (*Compiled, error) {
	var r Request
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("decode deletion request %s: %w", id, err)
	}
	if r.ID != id {
		return nil, fmt.Errorf("decode deletion request %s: it is request %s", id, r.ID)
	}
	c, err := compile(r)
	if err != nil {
		return nil, fmt.Errorf("decode deletion request %s: %w", id, err)
	}
	return c, nil
}

// Always bounds times that are not restricted.
const (
	Earliest = math.MinInt64
	Latest   = math.MaxInt64
)
