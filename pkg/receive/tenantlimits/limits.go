package tenantlimits

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Limits enforces the current version of the limits file. Its methods may be called
// concurrently.
type Limits struct {
	current atomic.Pointer[Config]

	mu      sync.Mutex
	buckets map[string]*bucket
	sweepAt int
	running int
	waiting []chan struct{}
}

// New returns limits by the configuration.
func New(c *Config) *Limits {
	l := &Limits{buckets: map[string]*bucket{}, sweepAt: minSweep}
	l.current.Store(c)
	return l
}

// Set switches to another version.
func (l *Limits) Set(c *Config) {
	l.current.Store(c)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.admit()
}

// Current returns the current version.
func (l *Limits) Current() *Config { return l.current.Load() }

// For returns the current limits of the tenant.
func (l *Limits) For(id string) Tenant { return l.current.Load().For(id) }

// Enter waits until a request may run; done ends it. The error is that of ctx.
// Requests run in the order in which they came.
func (l *Limits) Enter(ctx context.Context) (done func(), err error) {
	l.mu.Lock()
	if l.free() && len(l.waiting) == 0 {
		l.running++
		l.mu.Unlock()
		return l.leave, nil
	}
	turn := make(chan struct{})
	l.waiting = append(l.waiting, turn)
	l.mu.Unlock()
	select {
	case <-turn:
		return l.leave, nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, w := range l.waiting {
		if w == turn {
			l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
			return nil, ctx.Err()
		}
	}
	// The slot was granted at the same time: pass it on.
	l.running--
	l.admit()
	return nil, ctx.Err()
}

func (l *Limits) free() bool {
	most := l.current.Load().MaxConcurrency
	return most <= 0 || l.running < most
}

func (l *Limits) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running--
	l.admit()
}

// admit grants the free slots in order. The caller holds mu.
func (l *Limits) admit() {
	for len(l.waiting) > 0 && l.free() {
		close(l.waiting[0])
		l.waiting = l.waiting[1:]
		l.running++
	}
}

// Request checks the content of a request.
func (l *Limits) Request(id string, series, samples int) error {
	t := l.For(id)
	switch {
	case t.Series > 0 && int64(series) > t.Series:
		return ofRequest(id, t.Series, "series", "request.series_limit", series)
	case t.Samples > 0 && int64(samples) > t.Samples:
		return ofRequest(id, t.Samples, "samples", "request.samples_limit", samples)
	}
	return nil
}

// Rate takes samples out of the tenant's allowance, or returns how long to wait.
// A request larger than the burst passes when the allowance is full.
func (l *Limits) Rate(id string, samples int, now time.Time) error {
	t := l.For(id)
	if t.SamplesPerSecond <= 0 || samples == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[id]
	if b == nil {
		l.sweep(now)
		b = &bucket{left: t.Burst, at: now}
		l.buckets[id] = b
	}
	wait := b.take(float64(samples), t, now)
	if wait > 0 {
		return &Error{
			Tenant: id, Value: int64(t.SamplesPerSecond), What: "samples per second", Key: "samples_per_second_limit",
			Has: fmt.Sprintf("%d more are too many now", samples), RetryAfter: wait,
		}
	}
	return nil
}

// sweep removes unused buckets when there are many, as senders choose the names of
// tenants. The caller holds mu.
func (l *Limits) sweep(now time.Time) {
	if len(l.buckets) < l.sweepAt {
		return
	}
	c := l.current.Load()
	for id, b := range l.buckets {
		if t := c.For(id); b.left+now.Sub(b.at).Seconds()*t.SamplesPerSecond >= t.Burst {
			delete(l.buckets, id) // it is full, as a new one
		}
	}
	l.sweepAt = max(minSweep, 2*len(l.buckets))
}

const minSweep = 1024

// bucket is a token bucket.
type bucket struct {
	left float64
	at   time.Time
}

func (b *bucket) take(n float64, t Tenant, now time.Time) (wait time.Duration) {
	if passed := now.Sub(b.at).Seconds(); passed > 0 {
		b.left = min(t.Burst, b.left+passed*t.SamplesPerSecond)
		b.at = now
	}
	need := min(n, t.Burst)
	if b.left < need {
		return time.Duration((need - b.left) / t.SamplesPerSecond * float64(time.Second))
	}
	b.left -= n // below zero for requests above the burst: they are paid off later
	return 0
}
