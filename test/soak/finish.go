package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// drainTime is how long the backlog may last after the last write.
const drainTime = 5 * time.Minute

// finish checks that the backlog drains when no new samples come (I9), that the whole
// history is there, and that every process stops in order.
func (r *run) finish(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	began := time.Now()
	for {
		left, err := r.backlog(limited)
		if err == nil && left == "" {
			break
		}
		if !pause(limited, time.Second) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("I9: after %s without writes and faults there is a backlog: %s, %w", drainTime, left, err)
		}
		if err := r.violations(); err != nil {
			return err
		}
	}
	fmt.Fprintf(r.out, "     the backlog drained in %s\n", time.Since(began).Round(time.Second))
	for _, tenant := range tenants() {
		first, last := r.span(tenant)
		limited, cancel := context.WithTimeout(ctx, settleTime)
		defer cancel()
		if err := r.until(limited, tenant, first, last+3_600_000); err != nil {
			return fmt.Errorf("at the end: %w", err)
		}
	}
	if err := errors.Join(r.violations(), r.erasedEverywhere()); err != nil {
		return err
	}
	if r.history {
		if err := r.loseSource(ctx); err != nil {
			return err
		}
	}
	return r.stop()
}

// stopTime is how long a process may take to stop in order: a receiver writes and ships the
// blocks of all tenants meanwhile, with a limit of two minutes.
const stopTime = 3 * time.Minute

// backlog is what still has to be shipped, handed over or compacted, as text.
func (r *run) backlog(ctx context.Context) (string, error) {
	var left string
	for _, name := range processes() {
		var of []string
		switch roleOf(name) {
		case "receive":
			of = []string{"hindsight_shipper_pending_blocks", "hindsight_receive_hints_bytes"}
		case "sidecar":
			of = []string{"hindsight_shipper_pending_blocks"}
		case "compact":
			of = []string{"hindsight_compact_todo_jobs", "hindsight_compact_deletions_open"}
		default:
			continue
		}
		page, err := r.metrics(ctx, name)
		if err != nil {
			return left, err
		}
		for _, m := range of {
			if v := sum(page, m); v != 0 {
				left += fmt.Sprintf("%s of %s is %v; ", m, name, v)
			}
		}
	}
	if waiting, _ := r.blocks.violation(); waiting > 0 {
		left += fmt.Sprintf("%d blocks are not checked; ", waiting)
	}
	return left, nil
}

// stop ends every process in order. The readers see errors, which are not counted any more.
func (r *run) stop() error {
	all := processes()
	errs := make([]error, len(all))
	var done sync.WaitGroup
	for i, name := range all {
		if name == "s3" || r.site.lost(name) {
			continue
		}
		p := r.site.ending(name)
		done.Go(func() {
			if err := p.Stop(stopTime); err != nil {
				errs[i] = fmt.Errorf("I9: %s: %w", name, err)
			}
		})
	}
	done.Wait()
	return errors.Join(errs...)
}
