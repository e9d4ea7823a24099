package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// maxAnnotations bounds the warnings, and the remarks, of one answer, as over
// HTTP.
const maxAnnotations = 10

// queryService is PromQL over gRPC. It goes through the same engine and the same
// stores as the HTTP API, so the same limits hold.
type queryService struct {
	q         *Query
	queryable *Queryable
	defaults  queryopts.Defaults
}

// Query implements storerpc.QueryEngine.
func (s *queryService) Query(ctx context.Context, r *storerpc.QueryRequest) (*storerpc.QueryAnswer, error) {
	if err := s.q.Ready(); err != nil {
		return nil, fmt.Errorf("%w: not ready: %w", storeapi.ErrUnavailable, err)
	}
	if r.Settings != "" && r.Settings != s.q.cfg.settings() {
		return nil, fmt.Errorf("%w: it has %q, the client %q", storerpc.ErrSettings, s.q.cfg.settings(), r.Settings)
	}
	ctx, params, err := s.options(ctx, r)
	if err != nil {
		return nil, err
	}
	timeout := s.q.cfg.Timeout.Duration()
	if r.Timeout > 0 {
		timeout = min(timeout, r.Timeout)
	}
	ctx, expire := context.WithTimeout(queryopts.NewContext(ctx, params), timeout)
	ctx, end := s.q.engine.requests.begin(ctx, callInfo(ctx, r.Query))
	cancel := func() {
		end()
		expire()
	}
	accountOf(ctx).limits.lower(r.Limits)
	ctx, report := storeapi.NewReportContext(ctx)
	opts := promql.NewPrometheusQueryOpts(false, r.Lookback, nil)
	var qry promql.Query
	if r.Step > 0 {
		qry, err = s.q.engine.NewRangeQuery(ctx, s.queryable, opts, r.Query, r.Start, r.End, r.Step)
	} else {
		at := r.Start
		if at.IsZero() {
			at = time.Now()
		}
		qry, err = s.q.engine.NewInstantQuery(ctx, s.queryable, opts, r.Query, at)
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("%w: %w", storeapi.ErrInvalid, err)
	}
	res := qry.Exec(ctx)
	if res.Err != nil {
		qry.Close()
		cancel()
		return nil, queryError(res.Err)
	}
	warnings, infos := res.Warnings.AsStrings(r.Query, maxAnnotations, maxAnnotations)
	out := &storerpc.QueryAnswer{
		Value: res.Value, Warnings: slices.Concat(missingWarnings(report, warnings), warnings, infos),
		Close: func() {
			qry.Close()
			cancel()
		},
	}
	out.Read = accountOf(ctx).readNow()
	if st := qry.Stats(); st != nil && st.Samples != nil {
		out.Samples, out.PeakSamples = st.Samples.TotalSamples, int64(st.Samples.PeakSamples)
	}
	return out, nil
}

// missingWarnings returns a warning for each store that the report names and the given
// warnings do not: annotations are bounded, and an answer must not be partial without
// saying so. The protocol has no other place for them.
func missingWarnings(report *storeapi.Report, given []string) (out []string) {
	missing, more := report.Missing()
	for _, m := range missing {
		if slices.ContainsFunc(given, func(w string) bool { return m.Text != "" && strings.Contains(w, m.Text) }) {
			continue
		}
		if len(out) == maxAnnotations {
			more++
			continue
		}
		text := fmt.Sprintf("store %s is missing (%s)", m.Store, m.Reason)
		if m.Text != "" && !strings.Contains(m.Text, m.Store) {
			text += ": " + m.Text
		} else if m.Text != "" {
			text = m.Text
		}
		out = append(out, text)
	}
	if more > 0 {
		out = append(out, fmt.Sprintf("%d more stores are missing", more))
	}
	return out
}

// options returns those of the request, completed by the defaults, and the
// context with the tenant of the call.
func (s *queryService) options(ctx context.Context, r *storerpc.QueryRequest) (context.Context, queryopts.Options, error) {
	p := s.defaults.Request()
	p.Dedup, p.PartialResponse, p.StoreMatchers = r.Dedup, r.Partial == storeapi.PartialWarn, r.StoreMatchers
	resolution := r.MaxResolution
	if resolution == 0 && r.Step == 0 {
		resolution = s.defaults.AutoResolution(0)
	}
	err := errors.Join(p.SetMaxSourceResolution(resolution), p.SetShard(r.Shard))
	if len(queryopts.Names(r.ReplicaLabels)) > 0 {
		err = errors.Join(err, p.SetReplicaLabels(r.ReplicaLabels)) // the Queryable adds those of a hash ring
	}
	if err != nil {
		return nil, p, fmt.Errorf("%w: %w", storeapi.ErrInvalid, err)
	}
	ctx, p.Enforced, err = s.q.callTenant(ctx)
	if err != nil {
		return nil, p, fmt.Errorf("%w: %w", storeapi.ErrInvalid, err)
	}
	return ctx, p, nil
}

// callTenant returns the context with the tenant of a gRPC call, and the matcher
// that the tenant is restricted to. The rules are those for HTTP requests, with
// the metadata of the call in place of the headers.
func (q *Query) callTenant(ctx context.Context) (context.Context, *labels.Matcher, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "/", http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	md, _ := metadata.FromIncomingContext(ctx)
	for _, h := range []string{q.cfg.Tenancy.Header, tenant.Header, tenant.OrgHeader} {
		r.Header[http.CanonicalHeaderKey(h)] = md.Get(h)
	}
	if p, ok := peer.FromContext(ctx); ok {
		if t, ok := p.AuthInfo.(credentials.TLSInfo); ok {
			r.TLS = &t.State
		}
	}
	return q.tenant(r)
}

// queryError wraps an error of the engine in the error of its kind. The kind of an
// error of the storage is that of its cause.
func queryError(err error) error {
	var timeout promql.ErrQueryTimeout
	var canceled promql.ErrQueryCanceled
	var samples promql.ErrTooManySamples
	var storage promql.ErrStorage
	switch {
	case errors.Is(err, errBusy):
		return fmt.Errorf("%w: %w", storeapi.ErrUnavailable, err)
	case errors.Is(err, errEnded):
		return fmt.Errorf("%w: %w", context.Canceled, err)
	case errors.Is(err, limit.ErrExceeded):
		return err
	case errors.As(err, &timeout):
		return fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	case errors.As(err, &canceled):
		return fmt.Errorf("%w: %w", context.Canceled, err)
	case errors.As(err, &samples):
		return fmt.Errorf("%w: %w", limit.ErrExceeded, err)
	case errors.As(err, &storage) && storage.Err != nil:
		return storage.Err
	}
	return err
}

var _ storerpc.QueryEngine = (*queryService)(nil)
