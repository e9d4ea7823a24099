package receive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// readLimits reads the limits file; without one the defaults hold.
func (c *Config) readLimits() (content []byte, limits *limit.Config, err error) {
	if content, err = c.Limits.Content(); err != nil {
		return nil, nil, err
	}
	limits, err = limit.Parse(content)
	if err != nil {
		return nil, nil, flags.Invalid(fmt.Errorf("limits %s: %w", c.Limits.Source(), err))
	}
	return content, limits, nil
}

// watchLimits reads the limits file again and again; a broken one is reported
// once and the last good one stays.
func (r *Receive) watchLimits(ctx context.Context) error {
	if r.cfg.Limits.Path() == "" || r.cfg.LimitsReload <= 0 {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(r.cfg.LimitsReload)
	defer ticker.Stop()
	last, lastErr := r.limitsContent, ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		content, limits, err := r.cfg.readLimits()
		switch {
		case err != nil && err.Error() != lastErr:
			lastErr = err.Error()
			r.metrics.limitsFailures.Inc()
			r.logger.Error("new limits refused, the last good ones stay", "err", err)
		case err == nil && !bytes.Equal(content, last):
			last, lastErr = content, ""
			r.limits.Set(limits)
			r.logger.Info("limits loaded", "source", r.cfg.Limits.Source())
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

// admit waits for a place among the concurrent requests.
func (r *Receive) admit(ctx context.Context) (done func(), err error) {
	done, err = r.limits.Enter(ctx)
	if err != nil {
		return nil, remotewrite.Errorf(remotewrite.Unavailable, "the sender went away while its request waited: %w", err)
	}
	return done, nil
}

// checkContent holds a decoded request against the tenant's limits.
func (r *Receive) checkContent(id string, c remotewrite.Counts) error {
	if err := r.limits.Request(id, c.Series, c.Samples+c.Histograms); err != nil {
		return &remotewrite.WriteError{Kind: remotewrite.TooLarge, Err: err}
	}
	if err := r.limits.Rate(id, c.Samples+c.Histograms, time.Now()); err != nil {
		return &remotewrite.WriteError{Kind: remotewrite.LimitExceeded, Err: err}
	}
	return nil
}

// tenantLimits are those that hold where series are stored.
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
	var e *limit.Error
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
