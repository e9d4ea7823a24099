package compact

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// lightConcurrency bounds deletions and marks at one time.
const lightConcurrency = 8

// round is the execution of one plan.
type round struct {
	c *Compactor
	// began is the time of the bucket when the round began, local the own time.
	began, local time.Time

	mu sync.Mutex
	// bench are blocks whose jobs failed; they are not tried again in this pass.
	bench  map[ulid.ULID]string
	done   int
	failed []error
	// carried are the jobs that were carried out in this pass.
	carried map[string]bool
	// readOnly is why the bucket takes no writes, nil if it does.
	readOnly error
}

func newRound(c *Compactor) *round {
	return &round{c: c, bench: map[ulid.ULID]string{}, carried: map[string]bool{}}
}

// now is the time by the clock of the bucket.
func (r *round) now() time.Time { return r.began.Add(time.Since(r.local)) }

// run carries out the jobs of some kinds, limit at one time. No failure stops
// another job.
func (r *round) run(ctx context.Context, jobs []plan.Job, limit int, kinds ...plan.Kind) {
	var g errgroup.Group
	g.SetLimit(limit)
	for _, k := range kinds {
		for i := range jobs {
			if j := jobs[i]; j.Kind == k && !r.benched(j) && !r.repeated(j) && ctx.Err() == nil {
				g.Go(func() error {
					r.job(ctx, j)
					return nil
				})
			}
		}
	}
	_ = g.Wait() // failures are kept in r
}

// lightJobs carries out all jobs that only delete or mark, and first those that
// free space, which a full bucket needs for the marks.
func (r *round) lightJobs(ctx context.Context, jobs []plan.Job) {
	r.run(ctx, jobs, lightConcurrency, plan.Delete, plan.CleanPartial)
	r.run(ctx, jobs, lightConcurrency, plan.MarkDeletion, plan.MarkNoCompact)
}

// jobKey names a job within a pass.
func jobKey(j plan.Job) string { return fmt.Sprint(j.Kind, j.Resolution, j.Blocks) }

// repeated says whether the job was carried out in this pass already, and is
// planned again because its effect cannot be seen. The pass would never end.
func (r *round) repeated(j plan.Job) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.carried[jobKey(j)] {
		return false
	}
	r.c.log.Error("job is planned again after it was carried out; its blocks wait for the next pass",
		"kind", j.Kind, "group", j.Group, "blocks", fmt.Sprint(j.Blocks))
	for _, id := range j.Blocks {
		r.bench[id] = "a job on it had no effect"
	}
	return true
}

// heavyJobs merges and downsamples, side by side.
func (r *round) heavyJobs(ctx context.Context, jobs []plan.Job) {
	var wg sync.WaitGroup
	wg.Go(func() { r.run(ctx, jobs, r.c.cfg.Concurrency, plan.Merge) })
	wg.Go(func() { r.run(ctx, jobs, r.c.cfg.DownsampleConcurrency, plan.Downsample) })
	wg.Wait()
}

func (r *round) benched(j plan.Job) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range j.Blocks {
		if _, ok := r.bench[id]; ok {
			return true
		}
	}
	return false
}

// job carries out one job and takes note of how it went.
func (r *round) job(ctx context.Context, j plan.Job) {
	c := r.c
	start := time.Now()
	c.metrics.started.WithLabelValues(string(j.Kind), resolution(j)).Inc()
	err := r.do(ctx, j)
	if err != nil && ctx.Err() == nil {
		err = c.confirm(ctx, j, err)
	}
	if ctx.Err() != nil {
		return // interrupted; the next pass goes on
	}
	c.metrics.duration.WithLabelValues(string(j.Kind)).Observe(time.Since(start).Seconds())
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		c.metrics.completed.WithLabelValues(string(j.Kind), resolution(j)).Inc()
		c.metrics.samples.WithLabelValues(string(j.Kind)).Add(float64(c.samplesOf(j)))
		r.done++
		r.carried[jobKey(j)] = true
		return
	}
	c.metrics.failed.WithLabelValues(string(j.Kind), resolution(j)).Inc()
	c.log.Error("job failed", "kind", j.Kind, "group", j.Group, "blocks", fmt.Sprint(j.Blocks), "err", err)
	r.failed = append(r.failed, err)
	if r.blame(ctx, j, err) {
		r.done++ // there is a new plan without the block
		return
	}
	for _, id := range j.Blocks {
		r.bench[id] = err.Error()
	}
}

// do carries out a job. A panic concerns this job only; faults of mapped files
// become panics instead of ending the process.
func (r *round) do(ctx context.Context, j plan.Job) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recoverAs(&err, "job "+string(j.Kind))
	c, b := r.c, j.Blocks[0]
	switch j.Kind {
	case plan.Delete:
		return c.deleteMarked(ctx, b)
	case plan.CleanPartial:
		return c.deletePartial(ctx, b)
	case plan.MarkDeletion:
		err := c.markAll(ctx, j.Blocks, j.Details, r.now())
		if err != nil && c.mayDeleteUnmarked(j, err) {
			c.log.Warn("block is deleted without a mark, which the bucket does not take", "block", b, "reason", j.Reason, "err", err)
			return block.Delete(ctx, c.bkt, b)
		}
		return err
	case plan.MarkNoCompact:
		return c.markNoCompact(ctx, b, block.Cause{Reason: j.MarkReason, Details: j.Details}, r.now())
	case plan.Merge:
		return c.merge(ctx, j, r.now())
	case plan.Downsample:
		return c.downsample(ctx, j, r.now())
	}
	return fmt.Errorf("unknown kind of job %q", j.Kind)
}

// mayDeleteUnmarked says whether a block may be deleted although the bucket took
// no mark: it is full, and the block has been out of retention for as long as a
// mark would have to wait.
func (c *Compactor) mayDeleteUnmarked(j plan.Job, err error) bool {
	full := errors.Is(err, bucket.ErrFull) || errors.Is(err, bucket.ErrAccessDenied)
	return full && j.Overdue > 0 && j.Overdue >= c.policy.DeleteDelay
}

// deleteMarked deletes a block that is still marked: somebody may have taken
// back the mark since the bucket was listed.
func (c *Compactor) deleteMarked(ctx context.Context, id ulid.ULID) error {
	err := block.ReadMark(ctx, c.bkt, id, &block.DeletionMark{})
	if errors.Is(err, bucket.ErrNotFound) {
		c.log.Info("block is not marked any more and stays", "block", id)
		return nil
	}
	if err != nil {
		return err
	}
	return block.Delete(ctx, c.bkt, id)
}

// deletePartial deletes what has no meta.json, if it still has none.
func (c *Compactor) deletePartial(ctx context.Context, id ulid.ULID) error {
	_, err := c.bkt.Stat(ctx, block.Path(id, block.MetaFile))
	if err == nil {
		c.log.Info("block has been completed and stays", "block", id)
		return nil
	}
	if !errors.Is(err, bucket.ErrNotFound) {
		return fmt.Errorf("look whether block %s has been completed: %w", id, err)
	}
	return block.Delete(ctx, c.bkt, id)
}

// blame quarantines the block that an error is due to, and says whether there
// is one.
func (r *round) blame(ctx context.Context, j plan.Job, err error) bool {
	c := r.c
	if errors.Is(err, dedup.ErrNotCopies) {
		for _, id := range j.Blocks {
			c.quarantined.add(id, "replicas-interleaved", err.Error())
		}
		return true
	}
	if errors.Is(err, errPanic) {
		// Which input it is due to is unknown, and the next try would end alike.
		c.metrics.panics.WithLabelValues(string(j.Kind)).Inc()
		for _, id := range j.Blocks {
			c.quarantined.add(id, "job-panicked", err.Error())
		}
		return true
	}
	bad := blamed(j, err)
	if bad == nil {
		return false
	}
	c.quarantined.add(bad.ID, string(bad.Reason), err.Error())
	if permanent(bad.Reason) && j.Kind == plan.Merge {
		if err := c.markNoCompact(ctx, bad.ID, cause(bad), r.now()); err != nil {
			c.log.Warn("block could not be marked", "block", bad.ID, "err", err)
		}
	}
	return true
}

// permanent says whether the damage is in bytes that were read completely. A
// file that is missing or short may be repaired by uploading it again.
func permanent(why reason.Reason) bool {
	switch why {
	case reason.BlockIndexCorrupt, reason.BlockSeriesOutOfOrder, reason.BlockChunkCorrupt, reason.BlockSegmentCorrupt, reason.BlockChunkTimes:
		return true
	}
	return false
}

// cause is what a no-compact mark says of a broken block, in the words that
// others know where there are such.
func cause(bad *block.CorruptError) block.Cause {
	if bad.Reason == reason.BlockChunkTimes {
		return block.Cause{Reason: block.MarkOutOfOrderChunk, Details: bad.Error()}
	}
	return block.Cause{Reason: string(bad.Reason), Details: bad.Error()}
}

func (c *Compactor) markNoCompact(ctx context.Context, id ulid.ULID, why block.Cause, now time.Time) error {
	marked, err := block.MarkNoCompact(ctx, c.bkt, id, why, now)
	if marked {
		c.metrics.marked.WithLabelValues(block.NoCompactMarkFile, why.Reason).Inc()
	}
	return err
}

// workDir makes an empty directory for a job; done removes it.
func (c *Compactor) workDir(j plan.Job) (dir string, done func(), err error) {
	c.cleanWork.Do(func() { err = os.RemoveAll(c.work) })
	if err != nil {
		return "", nil, fmt.Errorf("remove what an earlier run has left: %w", err)
	}
	if err := os.MkdirAll(c.work, 0o777); err != nil {
		return "", nil, err
	}
	dir = filepath.Join(c.work, string(j.Kind)+"-"+j.Blocks[0].String())
	if err := os.RemoveAll(dir); err != nil {
		return "", nil, err
	}
	return dir, func() {
		if err := os.RemoveAll(dir); err != nil {
			c.log.Warn("work directory could not be removed", "dir", dir, "err", err)
		}
	}, os.Mkdir(dir, 0o777)
}

// errPanic is a panic that was recovered.
var errPanic = errors.New("panic")

// recoverAs turns a panic, which decoders of damaged data may end in, into an
// error, so that it concerns one job only.
func recoverAs(err *error, what string) {
	p := recover()
	if p == nil {
		return
	}
	if addr, ok := memoryFault(p); ok {
		*err = fmt.Errorf("%s: a file of the work folder cannot be read at address %#x: %w", what, addr, errMemoryFault)
		return
	}
	*err = fmt.Errorf("%s: %w: %v at %.2000s", what, errPanic, p, debug.Stack())
}
