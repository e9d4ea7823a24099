package compact

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

// progress is what the compactor does and plans to do. It may be used concurrently.
type progress struct {
	mu      sync.Mutex
	plan    plan.Plan
	planned time.Time
	running map[*plan.Job]*runningJob
	// ended are the jobs of the plan that have ended, by jobKey.
	ended map[string]bool
	// backlog is that of the last pass.
	backlog []plan.GroupBacklog
	inflow  float64
	// handled are the samples of the jobs that have ended since then.
	handled uint64
	speeds  map[plan.Kind]plan.Speed
}

// runningJob is a job that is being carried out.
type runningJob struct {
	since time.Time
	// samples are those of the inputs.
	samples uint64
	// read counts the samples that were read so far.
	read atomic.Uint64
}

// share is the part of the job that is done, from 0 to 1.
func (r *runningJob) share() float64 {
	if r.samples == 0 {
		return 0
	}
	return min(1, float64(r.read.Load())/float64(r.samples))
}

// eta is the time that the job still needs, false if it cannot be known yet.
func (r *runningJob) eta(now time.Time) (time.Duration, bool) {
	done := r.share()
	if done == 0 {
		return 0, false
	}
	return time.Duration(float64(now.Sub(r.since)) * (1 - done) / done), true
}

// set replaces the plan, which the caller does not change later.
func (p *progress) set(next plan.Plan, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan, p.planned, p.ended = next, at, map[string]bool{}
}

// foresee sets the backlog and the new samples per second.
func (p *progress) foresee(backlog []plan.GroupBacklog, inflow float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.backlog, p.inflow, p.handled = backlog, inflow, 0
}

// start notes that a job with inputs of so many samples runs until end is called. The
// context is for the readers of the inputs, which count samples with readSamples.
func (p *progress) start(ctx context.Context, j *plan.Job, samples uint64) (_ context.Context, end func(ok bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		p.running = map[*plan.Job]*runningJob{}
	}
	if p.ended == nil {
		p.ended = map[string]bool{}
	}
	r := &runningJob{since: time.Now(), samples: samples}
	p.running[j] = r
	return context.WithValue(ctx, readKey{}, &r.read), func(ok bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.running, j)
		p.ended[jobKey(*j)] = true
		if ok && samples > 0 && (j.Kind == plan.Merge || j.Kind == plan.Downsample) {
			p.handled += samples
			p.measure(j.Kind, samples, time.Since(r.since))
		}
	}
}

// readKey is the key of the counter in the context of a job.
type readKey struct{}

// readSamples returns the counter of the samples that a job has read.
func readSamples(ctx context.Context) *atomic.Uint64 {
	if n, ok := ctx.Value(readKey{}).(*atomic.Uint64); ok {
		return n
	}
	return new(atomic.Uint64)
}

// speedMemory is the working time after which a job counts 1/e in the speed of its kind.
const speedMemory = time.Hour

// measure adds a job to the speed of its kind. The caller holds the lock.
func (p *progress) measure(k plan.Kind, samples uint64, took time.Duration) {
	if p.speeds == nil {
		p.speeds = map[plan.Kind]plan.Speed{}
	}
	s := p.speeds[k]
	keep := math.Exp(-took.Seconds() / speedMemory.Seconds())
	s.Samples = s.Samples*keep + float64(samples)
	s.Time = time.Duration(float64(s.Time)*keep) + max(took, time.Microsecond)
	p.speeds[k] = s
}

// outlook is the state of the work after the last plan.
type outlook struct {
	backlog           []plan.GroupBacklog
	merge, downsample plan.Work
	inflow            float64
	speeds            map[plan.Kind]plan.Speed
	plan.Forecast
}

// outlook sums up the backlog and predicts its end.
func (c *Compactor) outlook() outlook {
	p := &c.progress
	p.mu.Lock()
	o := outlook{backlog: p.backlog, inflow: p.inflow, speeds: map[plan.Kind]plan.Speed{}}
	for k, n := range map[plan.Kind]int{plan.Merge: c.cfg.Concurrency, plan.Downsample: c.cfg.DownsampleConcurrency} {
		s := p.speeds[k]
		s.Concurrency = n
		o.speeds[k] = s
	}
	p.mu.Unlock()
	for i := range o.backlog {
		o.merge.Add(o.backlog[i].Merge)
		o.downsample.Add(o.backlog[i].Downsample)
	}
	o.Forecast = plan.Predict(plan.Outlook{
		Merge: o.merge.Samples, Downsample: o.downsample.Samples, Inflow: o.inflow,
		MergeSpeed: o.speeds[plan.Merge], DownsampleSpeed: o.speeds[plan.Downsample],
	}, c.policy)
	return o
}
