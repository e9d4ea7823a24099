package compact

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact/lease"
)

// ClaimConfig configures Claims.
type ClaimConfig struct {
	Bucket bucket.Bucket
	// Duration is the silence after which a compactor, or this process, loses a lease.
	Duration time.Duration
	// Wait is how long a claim waits for a compactor that works on the group.
	Wait time.Duration
	// Now is the time by the clock of the bucket.
	Now func() time.Time
	// Waiting is called once for a claim that waits, with the reason. It must not be nil.
	Waiting func(why error)
	Logger  *slog.Logger
}

// Claims keep compactors from the blocks that a tool changes. A merge that was planned before
// the change would have its samples in its result, and a rewritten block of one of its
// sources would be superseded by it. A Claims is for one goroutine.
type Claims struct {
	cfg    ClaimConfig
	leases *lease.Manager
}

// NewClaims makes a Claims. It reads and writes nothing before the first Claim.
func NewClaims(cfg ClaimConfig) *Claims {
	return &Claims{cfg: cfg, leases: lease.New(lease.Config{Bucket: cfg.Bucket, Duration: cfg.Duration, Logger: cfg.Logger})}
}

// claimPause is the time between two tries to take a lease.
const claimPause = 2 * time.Second

// Claim takes the lease of the external labels of the block, which a compactor has too while
// it works on blocks with these labels, whatever its replica labels are; release gives it
// back. The caller looks at the block again after the claim: a compactor may have merged it.
// Writes through Fenced with the context that it returns fail when the lease is lost, for
// instance because the process was stopped for longer than the lease time.
func (c *Claims) Claim(ctx context.Context, m *block.Meta) (claimed context.Context, release func(), err error) {
	if err := c.leases.Join(ctx); err != nil {
		return nil, nil, err
	}
	l, err := c.acquire(ctx, m.ExternalLabels().String(), time.Now().Add(c.cfg.Wait))
	if err != nil {
		return nil, nil, fmt.Errorf("claim block %s: %w", m.ULID, err)
	}
	return withLease(ctx, l), func() { l.Release(ctx, c.cfg.Now()) }, nil
}

// Close ends the heartbeat. All claims have been released.
func (c *Claims) Close(ctx context.Context) { c.leases.Close(ctx) }

// Fenced returns a bucket whose writes of meta.json and marks, and whose deletions, check the
// leases of their context.
func Fenced(b bucket.Bucket) bucket.Bucket { return fenced{b} }

// acquire takes one lease, and waits while a compactor has it.
func (c *Claims) acquire(ctx context.Context, name string, until time.Time) (*lease.Lease, error) {
	told := false
	for {
		// The caller looks at the block again, so that no listing is too old.
		l, err := c.leases.Acquire(ctx, name, c.cfg.Now().Add(24*time.Hour), c.cfg.Now())
		held := (*lease.HeldError)(nil)
		switch {
		case err == nil:
			return l, nil
		case errors.Is(err, lease.ErrStale): // it was taken from a process that has ended
		case !errors.As(err, &held):
			return nil, err
		case time.Now().After(until):
			return nil, fmt.Errorf("%w, and still works after %s: try again later", err, c.cfg.Wait)
		case !told && held.Owner != "":
			told = true
			c.cfg.Waiting(err)
		}
		t := time.NewTimer(min(claimPause, c.cfg.Duration/4))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil, ctx.Err()
		case <-t.C:
		}
	}
}
