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
// No object storage carries out a write only if another object is unchanged, so a process
// that is stopped between the check and the write still makes that one write when it
// continues. Such a write does no harm: a late meta.json is of a block that supersedes, or
// is superseded by, what the new owner made; a late mark is of a block whose result is
// published, and so is a late deletion. A result that may be published is never deleted;
// see mayWithdraw.
type fenced struct{ bucket.Bucket }

// Upload implements bucket.Bucket.
func (f fenced) Upload(ctx context.Context, name string, r io.Reader, size int64) error {
	if rel := path.Base(name); rel == block.MetaFile || strings.HasSuffix(rel, "-mark.json") {
		if err := checkLease(ctx); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return f.Bucket.Upload(ctx, name, r, size)
}

// Delete implements bucket.Bucket.
func (f fenced) Delete(ctx context.Context, name string) error {
	if err := checkLease(ctx); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return f.Bucket.Delete(ctx, name)
}
