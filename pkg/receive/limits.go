package receive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/receive/metamonitor"
	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/receive/replicate"
	"github.com/hindsight-io/hindsight/pkg/receive/tenantlimits"
)

// openLimits reads the limits for the first time; without a file the defaults
// apply.
func (r *Receive) openLimits() (err error) {
	if r.limitsContent, err = r.cfg.Limits.Content(); err != nil {
		return err
	}
	r.limits = tenantlimits.New(tenantlimits.Defaults())
	return r.loadLimits(r.limitsContent)
}

// loadLimits switches to another version of the limits file, or fails and changes
// nothing.
func (r *Receive) loadLimits(content []byte) error {
	c, err := tenantlimits.Parse(content)
	if err != nil {
		return flags.Invalid(fmt.Errorf("limits %s: %w", r.cfg.Limits.Source(), err))
	}
	switch {
	case r.ringSeries != nil:
		if err := r.ringSeries.Set(c); err != nil {
			return flags.Invalid(fmt.Errorf("limits %s: write.global: %w", r.cfg.Limits.Source(), err))
		}
	case c.Meta != nil:
		r.logger.Warn("meta_monitoring_url without effect: no hashring")
	}
	r.limits.Set(c)
	return nil
}

// watchLimits reads the limits file regularly. An invalid version is reported once,
// and the last valid one stays in use.
func (r *Receive) watchLimits(ctx context.Context) error {
	if r.cfg.Limits.Path() == "" || r.cfg.LimitsReload <= 0 {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(r.cfg.LimitsReload)
	defer ticker.Stop()
	loaded, seen, lastErr := r.limitsContent, r.limitsContent, ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		content, err := r.cfg.Limits.Content()
		if err == nil && !bytes.Equal(content, seen) {
			// The file may be half written: it is loaded when it has not changed at
			// the next tick.
			seen = content
			continue
		}
		if err == nil && !bytes.Equal(content, loaded) {
			if err = r.loadLimits(content); err == nil {
				loaded = content
				r.logger.Info("limits loaded", "file", r.cfg.Limits.Source())
			}
		}
		switch {
		case err == nil:
			lastErr = ""
		case err.Error() != lastErr:
			lastErr = err.Error()
			r.metrics.limitsFailures.Inc()
			r.logger.Error("limits rejected", "err", err)
		}
	}
}

// requestLimit is the most bytes of a request of the tenant, decompressed.
func (r *Receive) requestLimit(id string) int64 {
	most := r.cfg.MaxRequestBytes.Int64()
	if own := r.limits.For(id).SizeBytes; own > 0 {
		return min(most, own)
	}
	return most
}

// sizeError names the limit of bytes that a request exceeds.
func (r *Receive) sizeError(id string, err error) error {
	var e *remotewrite.TooLargeError
	if !errors.As(err, &e) {
		return err
	}
	var key string
	switch e.Limit {
	case r.cfg.MaxRequestBytes.Int64():
		key = "--remote-write.max-request-size"
	case r.requestLimit(id):
		key = "request.size_bytes_limit"
	case r.cfg.MaxInflightBytes.Int64(), r.bodies.mostOfOne:
		key = "--remote-write.max-inflight-size"
	default:
		key = fmt.Sprintf("%d times its size", maxExpansion)
	}
	return &remotewrite.WriteError{Kind: remotewrite.TooLarge, Err: &tenantlimits.Error{
		Tenant: id, Value: e.Limit, What: "bytes in a request", Key: key, Has: fmt.Sprintf("%s has %d", e.What, e.Size),
	}}
}

// admit waits for a slot of the concurrency gate.
func (r *Receive) admit(ctx context.Context) (done func(), err error) {
	done, err = r.limits.Enter(ctx)
	if err != nil {
		return nil, remotewrite.Errorf(remotewrite.Unavailable, "the sender closed its request while it waited for one of %d concurrency slots (max_concurrency): %w",
			r.limits.Current().MaxConcurrency, err)
	}
	return done, nil
}

// checkContent holds a decoded request against the tenant's limits.
func (r *Receive) checkContent(id string, c remotewrite.Counts) error {
	if err := r.limits.Request(id, c.Series, c.Samples+c.Histograms); err != nil {
		return &remotewrite.WriteError{Kind: remotewrite.TooLarge, Err: err}
	}
	return nil
}

// withinLimits returns the requests of the tenants that are within their limits, and
// an error for the others.
func (r *Receive) withinLimits(reqs []replicate.Request) ([]replicate.Request, error) {
	var within []replicate.Request
	var first error
	now, above := time.Now(), 0
	for i, q := range reqs {
		c := q.Batch.Counts()
		err := r.withinRing(q.Tenant)
		if err == nil {
			err = r.limits.Rate(q.Tenant, c.Samples+c.Histograms, now)
		}
		switch {
		case err == nil && above > 0:
			within = append(within, q)
		case err != nil && above == 0:
			within, first = append(within, reqs[:i]...), err
			fallthrough
		case err != nil:
			above++
		}
	}
	switch above {
	case 0:
		return reqs, nil
	case 1:
	default:
		first = fmt.Errorf("%w (and %d more of the request's tenants are above theirs)", first, above-1)
	}
	return within, &remotewrite.WriteError{Kind: remotewrite.LimitExceeded, Err: first, Stored: &remotewrite.Counts{}}
}

// withAbove adds the error of tenants above their limits to the outcome of the rest.
func withAbove(above, err error, rest []replicate.Request) error {
	if above == nil {
		return err
	}
	var all remotewrite.Counts
	for _, q := range rest {
		all = all.Plus(q.Batch.Counts())
	}
	stored := remotewrite.StoredOf(err, all)
	if err == nil {
		return &remotewrite.WriteError{Kind: remotewrite.LimitExceeded, Err: above, Stored: &stored}
	}
	return &remotewrite.WriteError{
		Kind: max(remotewrite.KindOf(err), remotewrite.LimitExceeded), Err: fmt.Errorf("%w; and %w", err, above), Stored: &stored,
	}
}

// withinRing returns an error when the tenant has as many series in the whole ring
// as it may have. It returns nil when the number is not known.
func (r *Receive) withinRing(id string) error {
	most := r.limits.For(id).ActiveSeries
	if r.ringSeries == nil || most <= 0 {
		return nil
	}
	if n, known := r.ringSeries.Series(id); known && n >= most {
		return &tenantlimits.Error{
			Tenant: id, Value: most, What: "active series in the whole ring", Key: tenantlimits.KeyHeadSeries,
			Has: fmt.Sprintf("it has %d", n), RetryAfter: metamonitor.Interval,
		}
	}
	return nil
}

// askRing queries the number of series of tenants in the whole ring until ctx ends.
func (r *Receive) askRing(ctx context.Context) error {
	if r.ringSeries == nil {
		return nil
	}
	return r.ringSeries.Run(ctx)
}

// tenantLimits returns the limits that apply where series are stored.
func (r *Receive) tenantLimits(id string) multitsdb.Limits {
	t := r.limits.For(id)
	return multitsdb.Limits{
		ActiveSeries: int(t.ActiveSeries),
		Labels:       remotewrite.LabelLimits{Names: t.LabelNames, NameLength: t.LabelNameLength, ValueLength: t.LabelValueLength},
	}
}

// tenantRetention is the retention of the tenant's blocks when the limits file
// has one.
func (r *Receive) tenantRetention(id string) (time.Duration, bool) {
	if own := r.limits.For(id).Retention; own != nil {
		return *own, true
	}
	return 0, false
}

// retryAfter is how long the sender should wait, in whole seconds.
func retryAfter(err error) int {
	var e *tenantlimits.Error
	switch kind := remotewrite.KindOf(err); {
	case errors.As(err, &e) && e.RetryAfter > 0:
		return int((e.RetryAfter + time.Second - 1) / time.Second)
	case kind == remotewrite.NotReady:
		return 5
	case kind == remotewrite.Unavailable, kind == remotewrite.LimitExceeded:
		return 1
	}
	return 0
}
