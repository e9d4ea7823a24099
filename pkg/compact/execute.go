package compact

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact/blockcheck"
	"github.com/hindsight-io/hindsight/pkg/compact/lease"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// lightConcurrency bounds deletions and marks at one time.
const lightConcurrency = 8

// round is the execution of one plan.
type round struct {
	c *Compactor
	// began is the time of the bucket when the round began, local that of this
	// process.
	began, local time.Time

	mu sync.Mutex
	// skipped are the blocks of failed jobs, which no job takes in this pass, with
	// the error.
	skipped map[ulid.ULID]string
	done    int
	failed  []error
	// completed are the jobs that were carried out in this pass.
	completed map[string]bool
	// readOnly is the error with which the bucket refuses writes, nil if it does not.
	readOnly error
	// elsewhere are the groups of the last plan that other compactors work on, with the
	// owners.
	elsewhere map[string]string
	// stale counts the listings that were too old for a group, by group; again says that
	// the last one was for any.
	stale map[string]int
	again bool

	leases *leaseSet // of the current plan
}

func newRound(c *Compactor) *round {
	return &round{
		c: c, skipped: map[ulid.ULID]string{}, completed: map[string]bool{},
		elsewhere: map[string]string{}, stale: map[string]int{},
	}
}

// now is the time by the clock of the bucket.
func (r *round) now() time.Time { return r.began.Add(time.Since(r.local)) }

// run carries out the jobs of the given kinds, up to limit at the same time. A
// failure does not stop other jobs.
func (r *round) run(ctx context.Context, jobs []plan.Job, limit int, kinds ...plan.Kind) {
	var g errgroup.Group
	g.SetLimit(limit)
	for _, k := range kinds {
		for i := range jobs {
			j := jobs[i]
			if j.Kind != k {
				continue
			}
			g.Go(func() error {
				defer r.leases.ended(ctx, j)
				if r.skips(j) || r.repeated(j) || ctx.Err() != nil {
					return nil
				}
				if jctx, ok := r.leases.get(ctx, j); ok {
					r.job(jctx, j)
				}
				return nil
			})
		}
	}
	_ = g.Wait() // r.failed has the errors
}

// lightJobs carries out all jobs that only delete or mark, deletions first, because a
// full bucket needs space for the marks.
func (r *round) lightJobs(ctx context.Context, jobs []plan.Job) {
	r.run(ctx, jobs, lightConcurrency, plan.Delete, plan.CleanPartial)
	r.run(ctx, jobs, lightConcurrency, plan.MarkDeletion)
}

// jobKey identifies a job within a pass.
func jobKey(j plan.Job) string { return fmt.Sprint(j.Kind, j.Resolution, j.Blocks) }

// repeated says whether the job was carried out in this pass already and had no
// visible effect. It skips the blocks of such a job, so that the pass ends.
func (r *round) repeated(j plan.Job) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.completed[jobKey(j)] {
		return false
	}
	r.c.log.Error("job had no effect", "job", j.Kind, "group", j.Group, "blocks", fmt.Sprint(j.Blocks))
	for _, id := range j.Blocks {
		r.skipped[id] = "a job on it had no effect"
	}
	return true
}

// heavyJobs merges and downsamples at the same time.
func (r *round) heavyJobs(ctx context.Context, jobs []plan.Job) {
	var wg sync.WaitGroup
	wg.Go(func() { r.run(ctx, jobs, r.c.cfg.Concurrency, plan.Rewrite, plan.Merge) })
	wg.Go(func() { r.run(ctx, jobs, r.c.cfg.DownsampleConcurrency, plan.Downsample) })
	wg.Wait()
}

// skips says whether a block of the job is skipped in this pass.
func (r *round) skips(j plan.Job) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range j.Blocks {
		if _, ok := r.skipped[id]; ok {
			return true
		}
	}
	return false
}

// job carries out one job and records its result.
func (r *round) job(ctx context.Context, j plan.Job) {
	c := r.c
	start := time.Now()
	ctx, ended := c.progress.start(ctx, &j, c.samplesOf(j))
	var err error
	defer func() { ended(err == nil) }()
	c.metrics.started.WithLabelValues(string(j.Kind), resolution(j)).Inc()
	err = r.do(ctx, j)
	if err != nil && ctx.Err() == nil {
		err = c.confirm(ctx, j, err)
	}
	if ctx.Err() != nil {
		return // interrupted; the next pass continues
	}
	if errors.Is(err, lease.ErrLost) {
		r.surrender(j, err)
		return
	}
	c.metrics.duration.WithLabelValues(string(j.Kind)).Observe(time.Since(start).Seconds())
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		c.metrics.completed.WithLabelValues(string(j.Kind), resolution(j)).Inc()
		c.metrics.samples.WithLabelValues(string(j.Kind)).Add(float64(c.samplesOf(j)))
		r.done++
		r.completed[jobKey(j)] = true
		return
	}
	c.metrics.failed.WithLabelValues(string(j.Kind), resolution(j)).Inc()
	c.log.Error("job failed", "job", j.Kind, "group", j.Group, "blocks", fmt.Sprint(j.Blocks), "err", err)
	r.failed = append(r.failed, err)
	if r.blame(ctx, j, err) {
		r.done++ // the next plan is without the block
		return
	}
	for _, id := range j.Blocks {
		r.skipped[id] = err.Error()
	}
}

// do carries out a job. It returns a panic as an error; faults of mapped files become
// panics instead of ending the process.
func (r *round) do(ctx context.Context, j plan.Job) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recoverAs(&err, "job "+string(j.Kind))
	c, b := r.c, j.Blocks[0]
	switch j.Kind {
	case plan.Delete:
		return r.deleteMarked(ctx, b)
	case plan.CleanPartial:
		return c.deletePartial(ctx, b, r.began)
	case plan.MarkDeletion:
		err := c.markAll(ctx, j.Blocks, j.Details, r.now)
		if err != nil && c.mayDeleteUnmarked(j, err) {
			c.log.Warn("deleting block without a mark", "block", b, "err", err)
			return block.Delete(ctx, c.bkt, b)
		}
		return err
	case plan.Rewrite:
		return c.rewrite(ctx, j, r.now)
	case plan.Merge:
		return c.merge(ctx, j, r.now)
	case plan.Downsample:
		return c.downsample(ctx, j, r.now)
	}
	return fmt.Errorf("unknown kind of job %q", j.Kind)
}

// mayDeleteUnmarked says whether a block may be deleted although the bucket refused
// the mark: the bucket is full or read-only, and the block has been out of retention
// for longer than the delay of a mark.
func (c *Compactor) mayDeleteUnmarked(j plan.Job, err error) bool {
	full := errors.Is(err, bucket.ErrFull) || errors.Is(err, bucket.ErrAccessDenied)
	return full && j.Overdue > 0 && j.Overdue >= c.policy.DeleteDelay
}

// deleteMarked deletes a block whose mark is still there and due.
func (r *round) deleteMarked(ctx context.Context, id ulid.ULID) error {
	c := r.c
	deleted, err := block.DeleteMarked(ctx, c.bkt, id, func(m *block.DeletionMark, written time.Time) bool {
		if r.readOnly != nil {
			written = time.Time{} // see look
		}
		return c.policy.DeletionDue(m, written, r.now())
	})
	if err == nil && !deleted {
		c.log.Info("block has lost its deletion mark, or has a new one", "block", id)
	}
	return err
}

// deletePartial deletes a directory that still has no meta.json, and into which nothing was
// written since the listing that began at listed.
func (c *Compactor) deletePartial(ctx context.Context, id ulid.ULID, listed time.Time) error {
	deleted, err := block.DeletePartial(ctx, c.bkt, id, listed)
	if err == nil && !deleted {
		c.log.Info("upload of block goes on", "block", id)
	}
	return err
}

// blame quarantines the blocks that caused an error, and says whether there are any.
func (r *round) blame(ctx context.Context, j plan.Job, err error) bool {
	c := r.c
	if errors.Is(err, dedup.ErrNotCopies) {
		for _, id := range j.Blocks {
			c.quarantined.add(id, reason.NotCopies, err.Error(), time.Now())
		}
		return true
	}
	if errors.Is(err, blockcheck.ErrMismatch) {
		// The next try would most likely fail as well; the sources stay as they are.
		c.metrics.mismatches.WithLabelValues(string(j.Kind)).Inc()
		for _, id := range j.Blocks {
			c.quarantined.add(id, reason.ResultMismatch, err.Error(), time.Now())
		}
		return true
	}
	if errors.Is(err, blockcheck.ErrUpload) {
		c.metrics.mismatches.WithLabelValues(string(j.Kind)).Inc()
		return false // the sources have no part in it
	}
	if errors.Is(err, errPanic) {
		// The input that caused it is unknown, and the next try would fail as well.
		c.metrics.panics.WithLabelValues(string(j.Kind)).Inc()
		for _, id := range j.Blocks {
			c.quarantined.add(id, reason.JobPanicked, err.Error(), time.Now())
		}
		return true
	}
	bad := blamed(j, err)
	if bad == nil {
		return false
	}
	c.quarantined.add(bad.ID, bad.Reason, err.Error(), time.Now())
	if permanent(bad.Reason) && j.Kind == plan.Merge {
		if err := c.markNoCompact(ctx, bad.ID, cause(bad), r.now()); err != nil {
			c.log.Warn("cannot mark block", "block", bad.ID, "err", err)
		}
	}
	return true
}

// permanent says whether the damage is in bytes that were read completely. A missing
// or short file may be repaired by another upload.
func permanent(why reason.Reason) bool {
	switch why {
	case reason.BlockIndexCorrupt, reason.BlockSeriesOutOfOrder, reason.BlockChunkCorrupt, reason.BlockSegmentCorrupt, reason.BlockChunkTimes, reason.BlockSampleTimes:
		return true
	}
	return false
}

// cause is the content of the no-compact mark of a damaged block, with the reason
// that Thanos uses if it has one.
func cause(bad *block.CorruptError) block.Cause {
	if bad.Reason == reason.BlockChunkTimes || bad.Reason == reason.BlockSampleTimes {
		return block.Cause{Reason: block.MarkOutOfOrderChunk, Details: bad.Error()}
	}
	return block.Cause{Reason: string(bad.Reason), Details: bad.Error()}
}

// markNoCompact excludes a block from merging.
func (c *Compactor) markNoCompact(ctx context.Context, id ulid.ULID, why block.Cause, now time.Time) error {
	marked, err := block.MarkNoCompact(ctx, c.bkt, id, why, now)
	if marked {
		c.metrics.marked.WithLabelValues(block.NoCompactMarkFile, why.Reason).Inc()
	}
	return err
}

// workDir makes an empty directory for a job; done removes it.
func (c *Compactor) workDir(j plan.Job) (dir string, done func(), err error) {
	c.cleanWork.Do(func() { err = c.fs.RemoveAll(c.work) })
	if err != nil {
		return "", nil, fmt.Errorf("remove the work directory of an earlier run: %w", err)
	}
	if err := c.fs.MkdirAll(c.work, 0o777); err != nil {
		return "", nil, err
	}
	dir = filepath.Join(c.work, string(j.Kind)+"-"+j.Blocks[0].String())
	if err := c.fs.RemoveAll(dir); err != nil {
		return "", nil, err
	}
	return dir, func() {
		if err := c.fs.RemoveAll(dir); err != nil {
			c.log.Warn("cannot remove work directory", "dir", dir, "err", err)
		}
	}, c.fs.MkdirAll(dir, 0o777)
}

// errPanic is a panic that was recovered.
var errPanic = errorid.Sentinel(errorid.JobPanicked, "panic")

// recoverAs turns a panic, for instance of a decoder of damaged data, into an error
// of one job.
func recoverAs(err *error, what string) {
	p := recover()
	if p == nil {
		return
	}
	if addr, ok := memoryFault(p); ok {
		*err = fmt.Errorf("%s: a file of the work directory cannot be read at address %#x: %w", what, addr, errMemoryFault)
		return
	}
	*err = fmt.Errorf("%s: %w: %v at %.2000s", what, errPanic, p, debug.Stack())
}
