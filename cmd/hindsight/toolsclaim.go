package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact"
	"github.com/hindsight-io/hindsight/pkg/flags"
)

// claimConfig holds the flags of commands that change single blocks beside compactors.
//
// The commands that need no lease: cleanup deletes only blocks whose mark is due when it
// looks at it again, and no plan has a job on a marked block; of an abandoned upload it looks
// at all times again, and a meta.json that appears later makes a block that lacks files, of
// which compactors know. retention marks blocks whose samples are due to go: in the result of
// a merge under way they are again, and go with it. downsample is a compactor and takes
// leases itself. delete-series writes a request, which compactors carry out. replicate,
// upload-blocks and tools tsdb import add blocks, as a sidecar does.
type claimConfig struct {
	leases         string
	duration, wait time.Duration
}

// Values of --compact.leases.
const (
	claimAuto = "auto"
	claimNone = "none"
)

func (c *claimConfig) register(r flags.Registrar) {
	r.Flag("compact.leases", "How to share the bucket with compactors: auto takes the lease of the group of each block that is changed; none takes none, for a bucket that no compactor works on now.").Default(claimAuto).EnumVar(&c.leases, claimAuto, claimNone)
	r.Flag("compact.lease-duration", "Silence of this command, for instance because it was killed, after which it loses the lease of a group; compactors wait for their own --compact.lease-duration, if that is longer.").Default("10s").DurationVar(&c.duration)
	r.Flag("compact.lease-wait", "How long to wait for a compactor that works on the group of a block.").Default("10m").DurationVar(&c.wait)
}

// claims are the leases of a command.
type claims struct {
	all *compact.Claims // nil takes none
	// bkt checks the leases before it marks a block, or publishes or deletes one.
	bkt bucket.Bucket
}

// open returns the claims of a command; now is the time by the clock of the bucket.
func (c *claimConfig) open(s streams, p *process, bkt bucket.Bucket, now func() time.Time) *claims {
	if c.leases == claimNone {
		return &claims{bkt: bkt}
	}
	return &claims{bkt: compact.Fenced(bkt), all: compact.NewClaims(compact.ClaimConfig{
		Bucket: bkt, Duration: max(c.duration, time.Second), Wait: c.wait, Now: now, Logger: p.logger,
		Waiting: func(why error) { fmt.Fprintf(s.err, "Waiting for up to %s: %v\n", c.wait, why) },
	})}
}

// close gives everything back.
func (c *claims) close(ctx context.Context) {
	if c.all != nil {
		c.all.Close(ctx)
	}
}

// with calls f while no compactor works on the group of a block. A block whose meta.json
// cannot be used needs no lease: no compactor works on it.
func (c *claims) with(ctx context.Context, id ulid.ULID, f func(ctx context.Context) error) error {
	if c.all == nil {
		return f(ctx)
	}
	m, err := block.ReadMeta(ctx, c.bkt, id)
	switch {
	case errors.Is(err, bucket.ErrNotFound) || block.ReasonOf(err) != "":
		return f(ctx)
	case err != nil:
		return err
	}
	claimed, release, err := c.all.Claim(ctx, m)
	if err != nil {
		return err
	}
	defer release()
	return f(claimed)
}
