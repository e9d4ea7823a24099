package compact

import (
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

// progress is what the compactor does and plans to do. It may be used concurrently.
type progress struct {
	mu      sync.Mutex
	plan    plan.Plan
	planned time.Time
	running map[*plan.Job]time.Time
	// ended are the jobs of the plan that have ended, by jobKey.
	ended map[string]bool
}

// set replaces the plan, which the caller does not change later.
func (p *progress) set(next plan.Plan, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan, p.planned, p.ended = next, at, map[string]bool{}
}

// start notes that a job runs until end is called.
func (p *progress) start(j *plan.Job, at time.Time) (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		p.running = map[*plan.Job]time.Time{}
	}
	if p.ended == nil {
		p.ended = map[string]bool{}
	}
	p.running[j] = at
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.running, j)
		p.ended[jobKey(*j)] = true
	}
}

// maxListed bounds the jobs and the skipped blocks in an answer; a backlog can have
// tens of thousands.
const maxListed = 10_000

// statusAnswer is the data of /api/v1/compact/status. Todo counts the jobs of the last
// plan by their kind, also those that have ended since; Jobs lacks those.
type statusAnswer struct {
	PlannedAt   time.Time         `json:"plannedAt"`
	Todo        map[plan.Kind]int `json:"todo"`
	Running     []jobAnswer       `json:"running"`
	Jobs        []jobAnswer       `json:"jobs"`
	Skipped     []skipAnswer      `json:"skipped"`
	Quarantined map[string]string `json:"quarantined"`
}

// jobAnswer is a job: its times in milliseconds, the samples of its inputs, and since
// when it runs.
type jobAnswer struct {
	Kind    plan.Kind   `json:"kind"`
	Group   string      `json:"group"`
	Blocks  []ulid.ULID `json:"blocks"`
	MinTime int64       `json:"minTime"`
	MaxTime int64       `json:"maxTime"`
	Samples uint64      `json:"samples"`
	Reason  string      `json:"reason"`
	Started *time.Time  `json:"started,omitempty"`
}

// skipAnswer is a block that no job takes.
type skipAnswer struct {
	Block   ulid.ULID `json:"block"`
	Details string    `json:"details"`
}

// serveStatus answers with what remains of the last plan, the jobs that run, oldest
// first, and the blocks that no job takes.
func (c *Compactor) serveStatus(w http.ResponseWriter, _ *http.Request) {
	a := statusAnswer{
		Todo: map[plan.Kind]int{}, Running: []jobAnswer{}, Jobs: []jobAnswer{}, Skipped: []skipAnswer{}, Quarantined: map[string]string{},
	}
	for id, why := range c.quarantined.details() {
		a.Quarantined[id.String()] = why
	}
	p := &c.progress
	p.mu.Lock()
	last, ended := p.plan, maps.Clone(p.ended)
	a.PlannedAt = p.planned
	for j, at := range p.running {
		job := c.answerJob(j)
		job.Started = &at
		a.Running = append(a.Running, job)
	}
	p.mu.Unlock()
	slices.SortFunc(a.Running, func(x, y jobAnswer) int { return x.Started.Compare(*y.Started) })
	for i := range last.Jobs {
		a.Todo[last.Jobs[i].Kind]++
		if len(a.Jobs) < maxListed && !ended[jobKey(last.Jobs[i])] {
			a.Jobs = append(a.Jobs, c.answerJob(&last.Jobs[i]))
		}
	}
	for _, s := range last.Skipped[:min(len(last.Skipped), maxListed)] {
		a.Skipped = append(a.Skipped, skipAnswer{s.Block, s.Details})
	}
	c.respond(w, http.StatusOK, map[string]any{"status": "success", "data": a})
}

func (c *Compactor) answerJob(j *plan.Job) jobAnswer {
	a := jobAnswer{
		Kind: j.Kind, Blocks: j.Blocks, MinTime: j.MinTime, MaxTime: j.MaxTime, Samples: c.samplesOf(*j), Reason: j.Reason,
	}
	if j.Kind != plan.CleanPartial { // which has no group
		a.Group = j.Group.String()
	}
	return a
}
