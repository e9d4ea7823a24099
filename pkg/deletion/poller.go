package deletion

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// readConcurrency bounds the requests that are read at one time.
const readConcurrency = 16

// Poller reads the requests of a bucket repeatedly, and each of them once. It may be
// used concurrently.
type Poller struct {
	bkt bucket.Reader
	log *slog.Logger
	m   pollerMetrics

	mu sync.Mutex // one poll at a time
	// known are the requests that were read; nil for one that is invalid.
	known   map[ulid.ULID]*Compiled
	entries atomic.Pointer[[]*Entry]
	// active is the set of the last use of Active, which changes with time.
	active atomic.Pointer[activeSet]
}

type activeSet struct {
	entries *[]*Entry
	set     *Set
	// from and until bound the time for which the set is valid.
	from, until time.Time
}

type pollerMetrics struct {
	active, invalid, lastSuccess prometheus.Gauge
	failures                     prometheus.Counter
}

// NewPoller returns a poller that makes no request yet. log and reg may be nil.
func NewPoller(bkt bucket.Reader, log *slog.Logger, reg prometheus.Registerer) *Poller {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	f := promauto.With(reg)
	return &Poller{bkt: bkt, log: log, known: map[ulid.ULID]*Compiled{}, m: pollerMetrics{
		active: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_deletion_requests_active",
			Help: "Requests to delete series whose samples are hidden, as of the last listing.",
		}),
		invalid: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_deletion_requests_invalid",
			Help: "Objects of the bucket that are called like a request to delete series and cannot be used, or are too many.",
		}),
		lastSuccess: f.NewGauge(prometheus.GaugeOpts{
			Name: "hindsight_deletion_last_successful_poll_timestamp_seconds",
			Help: "Time of the last complete listing of the requests to delete series.",
		}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "hindsight_deletion_poll_failures_total",
			Help: "Listings of the requests to delete series that failed. The last complete one stays in use.",
		}),
	}}
}

// Poll lists the requests and reads the new ones. After an error the entries of the last
// complete poll stay. Invalid objects are no error: they are logged once and counted.
func (p *Poller) Poll(ctx context.Context) ([]*Entry, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	entries, err := p.poll(ctx)
	if err != nil {
		p.m.failures.Inc()
		return nil, err
	}
	p.entries.Store(&entries)
	p.m.lastSuccess.SetToCurrentTime()
	p.m.active.Set(float64(len(p.Active(time.Now()).list())))
	return entries, nil
}

// poll lists the requests, and reads those that are not known.
func (p *Poller) poll(ctx context.Context) ([]*Entry, error) {
	listed := map[ulid.ULID]*Entry{}
	dropped, began := 0, time.Now()
	err := p.bkt.List(ctx, dir, func(o bucket.Object) error {
		id, rel, ok := parseName(o.Name)
		if !ok {
			return nil
		}
		e := listed[id]
		if e == nil {
			if len(listed) == maxRequests {
				dropped++
				return nil
			}
			e = &Entry{listed: began}
			listed[id] = e
		}
		e.note(rel)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list deletion requests: %w", err)
	}
	if dropped > 0 {
		p.log.Error("too many deletion requests; the newest ones are not used", "max", maxRequests)
	}
	known, err := p.read(ctx, listed)
	if err != nil {
		return nil, err
	}
	p.known = known
	out := make([]*Entry, 0, len(listed))
	invalid := dropped
	for id, e := range listed {
		if e.Compiled = known[id]; e.Compiled == nil {
			invalid++
			continue
		}
		out = append(out, e)
	}
	p.m.invalid.Set(float64(invalid))
	slices.SortFunc(out, func(a, b *Entry) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return out, nil
}

// read returns the listed requests; it reads those that are not known. A request that
// was removed since the listing is as an invalid one until the next.
func (p *Poller) read(ctx context.Context, listed map[ulid.ULID]*Entry) (map[ulid.ULID]*Compiled, error) {
	var mu sync.Mutex
	out := make(map[ulid.ULID]*Compiled, len(listed))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readConcurrency)
	for id := range listed {
		if c, ok := p.known[id]; ok {
			mu.Lock()
			out[id] = c
			mu.Unlock()
			continue
		}
		g.Go(func() error {
			c, err := readRequest(ctx, p.bkt, id)
			var bad *invalidError
			switch {
			case errors.As(err, &bad):
				p.log.Warn("deletion request unusable", "request", id, "err", err)
			case errors.Is(err, bucket.ErrNotFound):
				return nil
			case err != nil:
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			out[id] = c
			return nil
		})
	}
	return out, g.Wait()
}

// Entries are those of the last complete poll, oldest first; nil before.
func (p *Poller) Entries() []*Entry {
	if e := p.entries.Load(); e != nil {
		return *e
	}
	return nil
}

// Polled says whether any poll was complete.
func (p *Poller) Polled() bool { return p.entries.Load() != nil }

// Active is the set of requests whose samples are hidden at a time. It is cheap while
// no request is added or expires.
func (p *Poller) Active(now time.Time) *Set {
	entries := p.entries.Load()
	if a := p.active.Load(); a != nil && a.entries == entries && !now.Before(a.from) && !now.After(a.until) {
		return a.set
	}
	a := &activeSet{entries: entries, set: &Set{}, from: now, until: now.Add(time.Hour)}
	for _, e := range p.Entries() {
		if e.active(now) {
			a.set.requests = append(a.set.requests, e.Compiled)
			if e.Expires.Before(a.until) {
				a.until = e.Expires
			}
		}
	}
	p.active.Store(a)
	return a.set
}

// Run polls at the interval until ctx is cancelled. It logs failures.
func (p *Poller) Run(ctx context.Context, interval time.Duration) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		if _, err := p.Poll(ctx); err != nil && ctx.Err() == nil {
			p.log.Error("deletion requests cannot be read; those that are known stay in use", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
