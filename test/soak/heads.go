package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// recoverAfter is the age at which gateways make blocks of the log of a source that is gone.
const recoverAfter = 15 * time.Second

// recoverTime is how long that may take.
const recoverTime = 4 * time.Minute

// loseSource ends one replica of the pair and its sidecar for good, with their disk, after
// the log was shipped, and waits until the bucket alone has all of its samples: the
// gateways make blocks of the log.
func (r *run) loseSource(ctx context.Context) error {
	const replica = "b"
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, recoverTime)
	defer cancel()
	for {
		page, err := r.metrics(limited, "sidecar-"+replica)
		// The writers have ended, so the first pass that begins now ships the rest.
		if err == nil && sum(page, "hindsight_sidecar_head_last_ship_success_time_seconds") > float64(began.Add(5*time.Second).Unix()) {
			break
		}
		if !pause(limited, time.Second) {
			return fmt.Errorf("I9: the head of sidecar-%s was not shipped within %s: %w", replica, recoverTime, err)
		}
	}
	r.site.setGone(replica)
	for _, name := range []string{"sidecar-" + replica, "prometheus-" + replica} {
		r.site.ending(name).Kill()
	}
	if err := os.RemoveAll(r.site.path("prometheus-" + replica)); err != nil {
		return fmt.Errorf("lose the disk of a Prometheus: %w", err)
	}
	for _, name := range []string{"store-1", "store-2", "query"} {
		if err := r.site.ending(name).Stop(stopTime); err != nil {
			return fmt.Errorf("I9: a stop in order: %w", err)
		}
		if err := r.site.start(name); err != nil {
			return err
		}
	}
	lost := time.Now()
	first, last := r.span("ha")
	if err := r.until(limited, "ha", first, last+3_600_000); err != nil {
		return fmt.Errorf("after the loss of prometheus-%s and its sidecar: %w", replica, err)
	}
	fmt.Fprintf(r.out, "     the bucket had all of prometheus-%s %s after its loss\n", replica, time.Since(lost).Round(time.Second))
	return r.violations()
}
