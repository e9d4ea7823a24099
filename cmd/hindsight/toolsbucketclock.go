package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/headrecovery"
)

// bucketClock is the time of a bucket since its listing.
type bucketClock struct {
	// now is that of the bucket when the listing began, local that of this machine.
	now, local time.Time
	// full says that the bucket takes no write, so that its clock is unknown and now is
	// local.
	full   bool
	policy *plan.Policy
}

// read reads the clock of the bucket: blocks must not go too early because that of this
// machine is ahead. A full bucket has to be cleaned by the clock of this machine.
func (c *bucketClock) read(ctx context.Context, s streams, bkt bucket.Bucket) error {
	c.local = time.Now()
	now, err := headrecovery.Now(ctx, bkt)
	switch {
	case errors.Is(err, bucket.ErrFull):
		c.full, c.now = true, c.local
		fmt.Fprintf(s.err, "The bucket is full and its clock cannot be read: ages are by the clock of this machine and the times in the marks. (%v)\n", err)
		return nil
	case err != nil:
		return err
	}
	c.now = now
	return nil
}

func (c *bucketClock) time() time.Time { return c.now.Add(time.Since(c.local)) }

// due says whether a deletion mark that was written at written is due now.
func (c *bucketClock) due(m *block.DeletionMark, written time.Time) bool {
	if c.full {
		written = time.Time{}
	}
	return c.policy.DeletionDue(m, written, c.time())
}
