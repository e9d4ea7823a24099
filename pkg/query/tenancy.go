package query

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// tenant returns the context with the tenants of the request, and the matcher that
// they are restricted to, which may be nil.
func (q *Query) tenant(r *http.Request) (context.Context, *labels.Matcher, error) {
	t := q.cfg.Tenancy
	ids, err := tenant.AllFromHTTP(r, tenant.Source{
		CertificateField: t.CertificateField, Headers: []string{t.Header, tenant.Header, tenant.OrgHeader}, Default: t.Default,
	})
	if err != nil {
		return nil, nil, err
	}
	ctx := tenant.NewContext(r.Context(), tenant.Join(ids))
	if !t.Enforce {
		return ctx, nil, nil
	}
	m, err := tenantMatcher(t.Label, ids)
	return tenant.NewOnlyContext(ctx), m, err
}

// tenantMatcher matches the series of the tenants.
func tenantMatcher(label string, ids []string) (*labels.Matcher, error) {
	if len(ids) == 1 {
		return labels.NewMatcher(labels.MatchEqual, label, ids[0])
	}
	quoted := make([]string, len(ids))
	for i, id := range ids {
		quoted[i] = regexp.QuoteMeta(id)
	}
	return labels.NewMatcher(labels.MatchRegexp, label, strings.Join(quoted, "|"))
}

// visibleMetadata is Metadata for a request whose tenant may see its own metrics
// only. Metadata has no labels, so a metric is the tenant's where it has series
// of that name; stores that keep metadata by tenant give that of the tenant.
func (q *Query) visibleMetadata(ctx context.Context, metric string, limit int) (map[string][]storeapi.Metadata, storeapi.Warnings, error) {
	p, _ := queryopts.FromContext(ctx)
	if p.Enforced == nil || limit == 0 {
		return q.Metadata(ctx, metric, limit)
	}
	names, ws, err := q.fanout.LabelValues(ctx, model.MetricNameLabel, &storeapi.Request{
		MinTime: math.MinInt64, MaxTime: math.MaxInt64, MaxResolution: math.MaxInt64, SkipChunks: true,
		Matchers: []*labels.Matcher{p.Enforced}, Partial: storeapi.PartialWarn,
	})
	if err != nil {
		return nil, ws, fmt.Errorf("list the metrics of the tenant: %w", err)
	}
	found, more, err := q.Metadata(ctx, metric, -1)
	if err != nil {
		return nil, nil, err
	}
	slices.Sort(names)
	for name := range found {
		if !hasSeries(names, name) {
			delete(found, name)
		}
	}
	return storeapi.FirstMetadata(found, limit), append(ws, more...), nil
}

// hasSeries reports whether one of the sorted names is that of a series of the
// metric.
func hasSeries(names []string, metric string) bool {
	for _, suffix := range [...]string{"", "_total", "_created", "_bucket", "_count", "_sum", "_info", "_gcount", "_gsum"} {
		if _, ok := slices.BinarySearch(names, metric+suffix); ok {
			return true
		}
	}
	return false
}
