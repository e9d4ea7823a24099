package blocklist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// Config configures a Poller; the zero value has the defaults.
type Config struct {
	// Concurrency bounds parallel reads of meta.json and marks; 0 means 32.
	Concurrency int
	// Filters are applied to every view, in order.
	Filters []Filter
	// Logger gets one line for each broken block; nil means no logs.
	Logger *slog.Logger
	// Registerer of metrics may be nil.
	Registerer prometheus.Registerer
}

const defaultConcurrency = 32

// Poller lists the blocks of a bucket repeatedly. It keeps the meta.json and marks that
// it has read until a listing has another size or time of the object. It may be used
// concurrently.
type Poller struct {
	bkt     bucket.Reader
	cfg     Config
	log     *slog.Logger
	metrics *metrics

	mu      sync.Mutex // one poll at a time
	known   map[ulid.ULID]*entry
	refused atomic.Int64      // reads of meta.json that the bucket refused in this poll
	big     sync.Mutex        // held while a large meta.json is read and decoded
	names   map[string]string // interned names of objects within blocks

	taken   time.Time // of the last successful poll
	changed bool      // whether it differs from the last written index
}

// NewPoller returns a Poller of bkt. It makes no request.
func NewPoller(bkt bucket.Reader, cfg Config) *Poller {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = defaultConcurrency
	}
	return &Poller{
		bkt:     bkt,
		cfg:     cfg,
		log:     cfg.Logger,
		metrics: newMetrics(cfg.Registerer),
		known:   map[ulid.ULID]*entry{},
		names:   map[string]string{},
	}
}

// Poll lists the bucket and returns its blocks after the filters. It costs one listing,
// one GET for each meta.json or mark that is new or has changed, and a request for each of
// up to 16 blocks that are no longer listed. Broken blocks and marks are no error: such a block is among the
// unusable ones, such a deletion mark counts as absent and such a no-compact or
// no-downsample mark as present. Any error means that the view would be
// incomplete; the next Poll repeats only what failed. A block that cannot be read
// in three polls in a row, while most others can be, is among the unusable ones
// until it can. Polls do not overlap.
func (p *Poller) Poll(ctx context.Context) (*View, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	start := time.Now()
	v, err := p.poll(ctx, start)
	p.metrics.polls.Inc()
	if err != nil {
		p.metrics.failures.Inc()
		return nil, err
	}
	p.metrics.duration.Observe(time.Since(start).Seconds())
	p.metrics.lastSuccess.SetToCurrentTime()
	return v, nil
}

func (p *Poller) poll(ctx context.Context, start time.Time) (*View, error) {
	next, err := p.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the bucket: %w", err)
	}
	if err := p.keepVanished(ctx, next); err != nil {
		return nil, fmt.Errorf("compare the listing with the one before: %w", err)
	}
	p.changed = p.changed || differ(p.known, next)
	err = p.load(ctx, next)
	p.known = next
	if err != nil {
		return nil, err
	}
	p.taken = start
	return p.view(start), nil
}

// view makes the view of the known entries, after the filters.
func (p *Poller) view(taken time.Time) *View {
	v, dropped := newView(p.known, taken).Apply(p.cfg.Filters...)
	p.metrics.describe(v, dropped)
	return v
}

// differ says whether any block is not the same entry in both.
func differ(a, b map[ulid.ULID]*entry) bool {
	if len(a) != len(b) {
		return true
	}
	for id, e := range a {
		if b[id] != e {
			return true
		}
	}
	return false
}

// list groups the listing by block. An entry whose objects are the same as
// before is the same entry. Listings are sorted, so that the objects of a block
// follow each other; should they not, the parts are joined.
func (p *Poller) list(ctx context.Context) (map[ulid.ULID]*entry, error) {
	next := make(map[ulid.ULID]*entry, len(p.known))
	var (
		cur     ulid.ULID
		objects []object
	)
	flush := func() {
		if len(objects) == 0 {
			return
		}
		if e, ok := next[cur]; ok {
			objects = append(objects, e.objects...)
		}
		next[cur] = p.known[cur].update(objects)
		objects = objects[:0]
	}
	err := p.bkt.List(ctx, "", func(o bucket.Object) error {
		id, rel, ok := block.ParsePath(o.Name)
		if !ok || rel == "" || rel[len(rel)-1] == '/' {
			return nil
		}
		if id != cur {
			flush()
			cur = id
		}
		objects = append(objects, object{rel: p.intern(rel), size: o.Size, modified: o.LastModified.UnixNano(), timed: !o.LastModified.IsZero()})
		return nil
	})
	flush()
	return next, err
}

// readMeta reads a meta.json. It reads large ones one at a time, so that many of them
// do not exhaust the memory.
func (p *Poller) readMeta(ctx context.Context, id ulid.ULID) (*block.Meta, error) {
	m, err := block.ReadMetaUpTo(ctx, p.bkt, id, block.SmallMetaSize)
	if !errors.Is(err, bucket.ErrTooLarge) {
		return m, err
	}
	p.big.Lock()
	defer p.big.Unlock()
	return block.ReadMeta(ctx, p.bkt, id)
}

// twice reads an object, and again if it is malformed. An object that has not changed is
// not read in later polls, so a bit that flipped on the way must not count for ever.
func (p *Poller) twice(read func() error) error {
	p.metrics.reads.Inc()
	err := read()
	if block.ReasonOf(err) == "" {
		return err
	}
	p.metrics.reads.Inc()
	return read()
}

// maxNames bounds the interned names, because a bucket may have any number of them.
const maxNames = 100_000

func (p *Poller) intern(rel string) string {
	if s, ok := p.names[rel]; ok {
		return s
	}
	s := string([]byte(rel)) // not the whole object name
	if len(p.names) < maxNames {
		p.names[s] = s
	}
	return s
}

// load reads meta.json and marks of entries that are not loaded. It tries all of them,
// so that after a failure the next poll repeats only those that failed.
func (p *Poller) load(ctx context.Context, entries map[ulid.ULID]*entry) error {
	var (
		g      errgroup.Group
		mu     sync.Mutex
		failed = map[ulid.ULID]error{}
	)
	g.SetLimit(p.cfg.Concurrency)
	p.refused.Store(0)
	for id, e := range entries {
		if e.loaded {
			continue
		}
		g.Go(func() error {
			err := e.load(ctx, p, id)
			if err == nil {
				e.fails = 0
				return nil
			}
			e.fails++
			mu.Lock()
			defer mu.Unlock()
			failed[id] = err
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if n := p.refused.Load(); n > 0 && !anyUsable(entries) {
		return fmt.Errorf("%w: bucket can be listed, but refuses reads of all %d meta.json files; check the permissions to read objects", bucket.ErrAccessDenied, n)
	}
	errs := p.excludeFailing(entries, failed)
	const shown = 3
	if more := len(errs) - shown; more > 0 {
		errs = append(errs[:shown], fmt.Errorf("and %d more", more))
	}
	return errors.Join(errs...)
}

// maxFails is the number of polls in a row after which a block that cannot be read no
// longer fails the poll.
const maxFails = 3

// excludeFailing makes blocks unusable that could not be read in maxFails polls while
// most others could, and returns the errors of the other blocks.
func (p *Poller) excludeFailing(entries map[ulid.ULID]*entry, failed map[ulid.ULID]error) (errs []error) {
	few := 2*len(failed) < len(entries)
	for id, err := range failed {
		e := entries[id]
		if !few || e.fails < maxFails {
			errs = append(errs, err)
			continue
		}
		e.markUnusable(id, err)
		if e.logOnce(err) {
			p.log.Warn("unreadable block excluded", "block", id, "polls", e.fails, "err", err)
		}
	}
	return errs
}

// anyUsable says whether any entry has a meta.json.
func anyUsable(entries map[ulid.ULID]*entry) bool {
	for _, e := range entries {
		if e.meta != nil {
			return true
		}
	}
	return false
}
