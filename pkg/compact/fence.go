package compact

import (
	"context"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// fenced is the bucket of a compactor. Before each write of a meta.json or a mark and
// before each deletion, in the context of a job, it checks the lease of the job: the error
// is lease.ErrLost if another compactor has taken it over.
//
// No object storage carries out a write only if another object is unchanged: the condition
// of a conditional write or deletion is on the object itself, which a take-over does not
// change. So the write gets a deadline instead, the time until which nobody can have taken
// over. A try after an error does not begin later, and a process that was stopped after
// the check does not send the request when it continues. A request may still be one that
// was sent in time and is carried out later. That does no harm: a late meta.json is of a
// block that supersedes, or is superseded by, what the new owner made; a late mark is of a
// block whose result is published, and so is a late deletion. A result that may be
// published is never deleted; see mayWithdraw.
type fenced struct{ bucket.Bucket }

// Upload implements bucket.Bucket.
func (f fenced) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	upload := func(ctx context.Context) error { return f.Bucket.Upload(ctx, name, r, size) }
	if rel := path.Base(name); rel == block.MetaFile || strings.HasSuffix(rel, "-mark.json") {
		return fence(ctx, "write "+name, upload)
	}
	return upload(ctx)
}

// Delete implements bucket.Bucket.
func (f fenced) Delete(ctx context.Context, name string) error {
	return fence(ctx, "delete "+name, func(ctx context.Context) error { return f.Bucket.Delete(ctx, name) })
}

// fence checks the lease of the job and carries out a write that must end while the lease
// is certain.
func fence(ctx context.Context, what string, write func(context.Context) error) error {
	until, err := checkLeases(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if until.IsZero() {
		return write(ctx)
	}
	bounded, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	err = write(bounded)
	if err == nil || bounded.Err() == nil || ctx.Err() != nil {
		return err
	}
	if lost := checkLease(ctx); lost != nil {
		return fmt.Errorf("%s: %w; %w", what, lost, err)
	}
	return fmt.Errorf("%s: not done in the time for which the lease was certain: %w", what, err)
}
