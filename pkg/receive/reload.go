package receive

import (
	"context"
	"errors"
	"fmt"
)

// Reload reads limits, relabelling rules, hashring and TLS files again. An invalid
// one keeps its last valid version and is part of the error.
func (r *Receive) Reload(ctx context.Context) error {
	errs := []error{r.reloadLimits(), r.reloadRelabel(), r.tls.Reload(), r.capnpTLS.Reload(), r.web.Reload()}
	if r.peerTLS != nil {
		errs = append(errs, r.peerTLS.Reload())
	}
	if r.writer != nil && r.Ready() == nil { // before that, start-up reads the ring
		if err := r.loadRing(ctx); err != nil {
			r.metrics.ringFailures.Inc()
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (r *Receive) reloadLimits() error {
	content, err := r.cfg.Limits.Content()
	if err == nil {
		err = r.loadLimits(content)
	}
	if err != nil {
		r.metrics.limitsFailures.Inc()
		return fmt.Errorf("reload the limits: %w", err)
	}
	return nil
}

func (r *Receive) reloadRelabel() error {
	rules, err := readRelabel(&r.cfg.Relabel)
	if err != nil {
		return fmt.Errorf("reload the relabelling rules: %w", err)
	}
	r.relabel.Store(&rules)
	return nil
}
