package compact

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/markhttp"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

const (
	// guardWait is how long a mark over HTTP waits for a compactor. A merge may take longer
	// than a client waits for an answer.
	guardWait = 10 * time.Second
	// guardLease is the silence after which a process that was killed while it marked a
	// block loses the lease.
	guardLease = 10 * time.Second
)

// MarkGuard returns a guard for marks over HTTP, in a compactor or another process: it takes
// the lease of the external labels of the block, as tools bucket mark does. A merge that was
// planned before a mark would have the samples of the block in its result. The error is a
// lease.HeldError when a compactor still works after ten seconds. now returns the time by
// the clock of the bucket. On a bucket without conditional writes nothing is claimed, because
// a second owner of leases would stop the only compactor.
func MarkGuard(b bucket.Bucket, now func(context.Context) (time.Time, error), logger *slog.Logger) markhttp.Guard {
	g := &markGuard{bkt: b, now: now, log: logger}
	return g.with
}

type markGuard struct {
	bkt bucket.Bucket
	now func(context.Context) (time.Time, error)
	log *slog.Logger

	mu      sync.Mutex
	probed  bool
	without bool // the bucket has no conditional writes
}

// unleased says whether the bucket has no conditional writes. It asks the bucket once.
func (g *markGuard) unleased(ctx context.Context) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.probed {
		return g.without, nil
	}
	err := bucket.ProbeConditions(ctx, g.bkt, "hindsight/leases")
	if err != nil && !errors.Is(err, bucket.ErrNoConditions) {
		return false, err
	}
	g.probed, g.without = true, err != nil
	return g.without, nil
}

// with implements markhttp.Guard. A block whose meta.json cannot be used needs no lease: no
// compactor works on it.
func (g *markGuard) with(ctx context.Context, id ulid.ULID, f markhttp.Change) error {
	began, err := g.now(ctx)
	if err != nil {
		return err
	}
	local := time.Now()
	now := func() time.Time { return began.Add(time.Since(local)) }
	m, err := block.ReadMeta(ctx, g.bkt, id)
	switch {
	case errors.Is(err, bucket.ErrNotFound) || block.ReasonOf(err) != "":
		return f(ctx, g.bkt, now())
	case err != nil:
		return err
	}
	if without, err := g.unleased(ctx); err != nil {
		return err
	} else if without {
		return f(ctx, g.bkt, now())
	}
	c := NewClaims(ClaimConfig{Bucket: g.bkt, Duration: guardLease, Wait: guardWait, Now: now, Logger: g.log, Waiting: func(error) {}})
	// The lease is given back also when the client has gone.
	defer c.Close(context.WithoutCancel(ctx))
	claimed, release, err := c.Claim(ctx, m)
	if err != nil {
		return err
	}
	defer release()
	return f(claimed, Fenced(g.bkt), now())
}
