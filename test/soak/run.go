package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// config is what a run needs to know.
type config struct {
	seed    uint64
	lasts   time.Duration // of the rounds
	rounds  int           // at most; 0 is no limit
	warm    time.Duration // before the first fault
	dir     string
	bin     harness.Binaries
	out     io.Writer
	history bool // blocks of twelve days before the first sample
}

// run is one run: a site with clients, faults and checks.
type run struct {
	config
	site    *site
	ledgers []*ledger
	guard   *guard
	blocks  *blocks
	began   time.Time

	// present is the time of samples from which on all copies of the live tenant count.
	present atomic.Int64

	mu       sync.Mutex
	counts   map[string]int
	faults   map[string]int
	timeline []string
	lostAt   int64  // newest sample of the ring when a disk was lost last
	last     string // the last read that was not complete
	resource []usage
}

const timeOfDay = "15:04:05.000"

// settleTime is how long after a fault everything must be complete again.
const settleTime = 3 * time.Minute

// do carries out a run. The error is a violation of an invariant, or that the run could
// not be carried out.
func do(ctx context.Context, cfg config) (err error) {
	r := &run{config: cfg, counts: map[string]int{}, faults: map[string]int{}, guard: newGuard(deleteDelay), began: time.Now()}
	r.streams()
	r.blocks = newBlocks(filepath.Join(cfg.dir, "s3", bucketName), filepath.Join(cfg.dir, "keep"), r.ledgers)
	if r.site, err = newSite(cfg.dir, cfg.bin, cfg.out, r.changed); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.site.close()) }()
	var checking sync.WaitGroup
	checking.Go(r.blocks.run)
	defer func() { close(r.blocks.queue); checking.Wait() }()
	if err := r.up(ctx); err != nil {
		return err
	}
	err = r.load(ctx)
	r.summary()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("interrupted: %w", context.Cause(ctx))
	case err != nil:
		r.explain(err)
	}
	return err
}

// streams makes the ledgers. Their samples begin at the border of fourteen days, so that
// blocks of that size come about early in a run.
func (r *run) streams() {
	const period = 14 * 24 * 3_600_000
	const step = 60_000
	base := time.Now().UnixMilli()/period*period - 3*period
	for _, s := range []*stream{
		newStream("red", "", base, step, 12), newStream("blue", "", base, step, 6),
		newStream("ha", "a", base, step, 6), newStream("ha", "b", base+7000, step, 6),
	} {
		if s.replica != "" {
			// Prometheus does not promise to keep out-of-order samples when it is killed.
			s.series = slices.DeleteFunc(s.series, func(x series) bool { return x.kind == late })
		}
		l := newLedger(s)
		l.advance(12 * 24 * 60)
		r.ledgers = append(r.ledgers, l)
	}
	live := newLedger(newStream("live", "", time.Now().Truncate(time.Second).UnixMilli(), 1000, 3))
	live.series = slices.DeleteFunc(live.series, func(x series) bool { return x.kind == late })
	live.steps, live.pause, live.present = 1, time.Second, true
	r.ledgers = append(r.ledgers, live)
}

// changed is called with each change of the bucket.
func (r *run) changed(e event) {
	var meta *block.Meta
	if id, rest, ok := blockOf(e.key); ok && e.put && rest == block.MetaFile {
		m, err := r.blocks.add(id)
		if err != nil {
			r.guard.mu.Lock()
			if r.guard.wrong == nil {
				r.guard.wrong = err
			}
			r.guard.mu.Unlock()
			return
		}
		meta = m
	}
	r.guard.see(e, meta)
}

// up starts all processes.
func (r *run) up(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for _, name := range processes() {
		if err := r.site.start(name); err != nil {
			return err
		}
		if name == "s3" || roleOf(name) == "prometheus" {
			if err := r.site.ready(ctx, name); err != nil {
				return err
			}
		}
		if name == "s3" && r.history {
			if err := r.preload(ctx); err != nil {
				return err
			}
		}
	}
	for _, name := range processes() {
		if err := r.site.ready(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// load runs the clients, and one round after the other.
func (r *run) load(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var clients sync.WaitGroup
	spawn := func(f func() error) {
		clients.Go(func() {
			if err := f(); err != nil {
				cancel(err)
			}
		})
	}
	writing, stopWriting := context.WithCancel(ctx)
	defer stopWriting()
	var writers sync.WaitGroup
	for _, l := range r.ledgers {
		targets := receiverNames()
		if l.replica != "" {
			targets = []string{"prometheus-" + l.replica}
		}
		writers.Add(1)
		spawn(func() error { defer writers.Done(); return r.write(writing, l, targets) })
	}
	for i := range 2 {
		spawn(func() error { return r.read(ctx, rand.New(rand.NewPCG(r.seed, uint64(100+i)))) })
	}
	writers.Add(1)
	spawn(func() error { defer writers.Done(); return r.erase(writing, rand.New(rand.NewPCG(r.seed, 200))) })
	err := r.roundsOf(ctx)
	if err == nil {
		stopWriting()
		writers.Wait()
		err = r.finish(ctx)
	}
	cancel(err)
	clients.Wait()
	if cause := context.Cause(ctx); err == nil || errors.Is(err, context.Canceled) {
		if cause != nil && !errors.Is(cause, context.Canceled) {
			err = cause
		}
	}
	return err
}

// roundsOf lets faults happen, one round after the other.
func (r *run) roundsOf(ctx context.Context) error {
	_, divided := r.site.net.(divisible)
	plan := newSchedule(r.seed, processes(), machine{partitions: divided, disks: len(r.site.disks) > 0})
	pause(ctx, r.warm)
	if err := r.settle(ctx, 0); err != nil {
		return fmt.Errorf("before the first fault: %w", err)
	}
	for n := 1; ; n++ {
		if time.Since(r.began) > r.lasts || r.rounds > 0 && n > r.rounds {
			return nil
		}
		faults := plan.next()
		began := time.Now()
		errs := make([]error, len(faults))
		var done sync.WaitGroup
		for i, f := range faults {
			done.Go(func() { errs[i] = r.inject(ctx, f) })
			r.mu.Lock()
			r.faults[f.kind]++
			if f.kind == faultBucket {
				r.faults[f.kind+" "+f.other]++
			}
			r.mu.Unlock()
		}
		done.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		if err := r.settle(ctx, n); err != nil {
			return err
		}
		r.progress(n, faults, time.Since(began))
		if !pause(ctx, 2*time.Second) {
			return context.Cause(ctx)
		}
	}
}

// settle waits until everything is complete again, and checks what can be checked at any time.
func (r *run) settle(ctx context.Context, n int) error {
	limited, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for _, name := range processes() {
		if err := r.site.ready(limited, name); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("I9: %w", err)
		}
	}
	for _, tenant := range tenants() {
		first, last := r.span(tenant)
		const hour = 3_600_000
		size := int64(4 * hour)
		switch {
		case n%20 == 10:
			size = last - first
		case n%5 == 0:
			size = 40 * hour
		}
		if err := r.until(limited, tenant, max(first, last-size), last+hour); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
	r.measure(ctx)
	return r.violations()
}

// until asks for a window until the answer is complete.
func (r *run) until(ctx context.Context, tenant string, from, to int64) error {
	for {
		out, samples, err := r.window(tenant, from, to)
		if err != nil {
			return err
		}
		r.count("samples compared", samples)
		if out == complete {
			return nil
		}
		if !pause(ctx, 200*time.Millisecond) {
			return fmt.Errorf("I9: no complete answer for tenant %s within %s after the faults; the last one: %s", tenant, settleTime, r.lastIncomplete())
		}
	}
}

// violations are those that were found beside the answers.
func (r *run) violations() error {
	if err := r.site.ended(); err != nil {
		return fmt.Errorf("I9: %w", err)
	}
	if err := r.guard.violation(); err != nil {
		return err
	}
	if _, err := r.blocks.violation(); err != nil {
		return err
	}
	if err := r.panics(); err != nil {
		return err
	}
	return r.bounded()
}

// panics looks for crashes in the logs.
func (r *run) panics() error {
	for _, name := range processes() {
		b, err := os.ReadFile(r.site.path(name + ".log"))
		if err != nil {
			return fmt.Errorf("read a log: %w", err)
		}
		if sign := crashed(string(b)); sign != "" {
			return fmt.Errorf("I9: the log of %s has a crash: %s", name, sign)
		}
	}
	return nil
}

// crashed returns the beginning of the first crash in a log. That of a TSDB without space is
// none, but one that a handler recovered is, because it leaves locks.
func crashed(log string) string {
	for _, sign := range []string{"panic: ", "panic in ", "fatal error: ", "BUG"} {
		for rest := log; ; {
			at := strings.Index(rest, sign)
			if at < 0 {
				break
			}
			rest = rest[at:]
			line, _, _ := strings.Cut(rest, "\n")
			if sign != "panic: " || !strings.Contains(line, "no space left on device") {
				return rest[:min(len(rest), 2000)]
			}
			rest = rest[len(sign):]
		}
	}
	return ""
}
