package compact

import (
	"cmp"
	"maps"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/compact/plan"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// maxListed bounds the jobs and the skipped blocks in an answer; a backlog can have
// tens of thousands.
const maxListed = 10_000

// maxGroups bounds the groups in an answer and in metrics; those with the most work are
// in it.
const maxGroups = 200

// statusAnswer is the data of /api/v1/compact/status. Todo counts the jobs of the last
// plan by their kind, also those that have ended since; Jobs lacks those.
type statusAnswer struct {
	PlannedAt   time.Time         `json:"plannedAt"`
	Todo        map[plan.Kind]int `json:"todo"`
	Running     []jobAnswer       `json:"running"`
	Jobs        []jobAnswer       `json:"jobs"`
	Skipped     []skipAnswer      `json:"skipped"`
	Quarantined map[string]string `json:"quarantined"`
	// BadBlocks are the quarantined blocks and those with an invalid meta.json.
	BadBlocks []badAnswer   `json:"badBlocks"`
	Backlog   backlogAnswer `json:"backlog"`
}

// jobAnswer is a job: its times in milliseconds, the samples of its inputs, and since
// when it runs. Percent and EtaSeconds are those of a running job; a job that reads no
// samples yet has no EtaSeconds.
type jobAnswer struct {
	Kind        plan.Kind   `json:"kind"`
	Group       string      `json:"group"`
	Resolution  string      `json:"resolution,omitempty"`
	Blocks      []ulid.ULID `json:"blocks"`
	MinTime     int64       `json:"minTime"`
	MaxTime     int64       `json:"maxTime"`
	Samples     uint64      `json:"samples"`
	Reason      string      `json:"reason"`
	Started     *time.Time  `json:"started,omitempty"`
	SamplesRead *uint64     `json:"samplesRead,omitempty"`
	Percent     *float64    `json:"percent,omitempty"`
	EtaSeconds  *float64    `json:"etaSeconds,omitempty"`
}

// skipAnswer is a block that no job takes. Reason is set when its meta.json is invalid.
type skipAnswer struct {
	Block   ulid.ULID     `json:"block"`
	Details string        `json:"details"`
	Reason  reason.Reason `json:"reason,omitempty"`
}

// badAnswer is a block that an operator has to look at, with the time at which this
// process noticed it. Group is empty where the meta.json cannot be read.
type badAnswer struct {
	Block       ulid.ULID     `json:"block"`
	Group       string        `json:"group"`
	Reason      reason.Reason `json:"reason"`
	Details     string        `json:"details"`
	Since       time.Time     `json:"since"`
	Quarantined bool          `json:"quarantined"`
	// RetryAt is the time from which on jobs may take a quarantined block again.
	RetryAt *time.Time `json:"retryAt,omitempty"`
}

// backlogAnswer is the work of the last pass until nothing is left to plan, also with
// the results of its jobs. Null is unknown; an EtaSeconds of null with KeepsUp "no" is
// never.
type backlogAnswer struct {
	Blocks     int    `json:"blocks"`
	Samples    uint64 `json:"samples"`
	Merge      work   `json:"merge"`
	Downsample work   `json:"downsample"`
	// Groups are those with work, most samples first; GroupsTotal counts all of them.
	Groups      []groupAnswer `json:"groups"`
	GroupsTotal int           `json:"groupsTotal"`
	// The samples per second of jobs that have ended, and of new data.
	MergePerSecond      *float64 `json:"mergeSamplesPerSecond"`
	DownsamplePerSecond *float64 `json:"downsampleSamplesPerSecond"`
	InflowPerSecond     float64  `json:"inflowSamplesPerSecond"`
	// Load is the share of the time that new data needs.
	Load       *float64     `json:"load"`
	EtaSeconds *float64     `json:"etaSeconds"`
	KeepsUp    plan.Verdict `json:"keepsUp"`
}

type work struct {
	Jobs    int    `json:"jobs"`
	Blocks  int    `json:"blocks"`
	Samples uint64 `json:"samples"`
}

type groupAnswer struct {
	Group      string `json:"group"`
	Blocks     int    `json:"blocks"`
	Samples    uint64 `json:"samples"`
	Merge      work   `json:"merge"`
	Downsample work   `json:"downsample"`
}

// serveStatus answers with what remains of the last plan, the jobs that run, oldest
// first, the blocks that no job takes, and the backlog.
func (c *Compactor) serveStatus(w http.ResponseWriter, _ *http.Request) {
	a := statusAnswer{
		Todo: map[plan.Kind]int{}, Running: []jobAnswer{}, Jobs: []jobAnswer{}, Skipped: []skipAnswer{}, Quarantined: map[string]string{},
		BadBlocks: c.badBlocks(), Backlog: c.answerBacklog(),
	}
	for id, why := range c.quarantined.details() {
		a.Quarantined[id.String()] = why
	}
	now := time.Now()
	p := &c.progress
	p.mu.Lock()
	last, ended := p.plan, maps.Clone(p.ended)
	a.PlannedAt = p.planned
	for j, r := range p.running {
		a.Running = append(a.Running, c.answerRunning(j, r, now))
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
		a.Skipped = append(a.Skipped, skipAnswer{s.Block, s.Details, s.Reason})
	}
	c.respond(w, http.StatusOK, map[string]any{"status": "success", "data": a})
}

func (c *Compactor) answerJob(j *plan.Job) jobAnswer {
	a := jobAnswer{
		Kind: j.Kind, Blocks: j.Blocks, MinTime: j.MinTime, MaxTime: j.MaxTime, Samples: c.samplesOf(*j), Reason: j.Reason,
	}
	if j.Kind != plan.CleanPartial { // which has no group
		a.Group, a.Resolution = j.Group.String(), plan.ResolutionName(j.Resolution)
	}
	return a
}

// answerRunning is answerJob for a job that runs. Only merging and downsampling read
// samples.
func (c *Compactor) answerRunning(j *plan.Job, r *runningJob, now time.Time) jobAnswer {
	a := c.answerJob(j)
	a.Started = &r.since
	if j.Kind != plan.Merge && j.Kind != plan.Downsample {
		return a
	}
	read, percent := r.read.Load(), 100*r.share()
	a.SamplesRead, a.Percent = &read, &percent
	if eta, ok := r.eta(now); ok {
		a.EtaSeconds = known(eta.Seconds())
	}
	return a
}

func (c *Compactor) answerBacklog() backlogAnswer {
	o := c.outlook()
	a := backlogAnswer{
		Blocks: o.merge.Blocks + o.downsample.Blocks, Samples: o.merge.Samples + o.downsample.Samples,
		Merge: work(o.merge), Downsample: work(o.downsample),
		Groups: []groupAnswer{}, GroupsTotal: len(o.backlog),
		MergePerSecond: known(speed(o.speeds[plan.Merge])), DownsamplePerSecond: known(speed(o.speeds[plan.Downsample])),
		InflowPerSecond: o.inflow, Load: known(o.Load), EtaSeconds: known(o.ETA), KeepsUp: o.Verdict,
	}
	for i := range o.backlog[:min(len(o.backlog), maxGroups)] {
		g := &o.backlog[i]
		t := g.Total()
		a.Groups = append(a.Groups, groupAnswer{g.Group, t.Blocks, t.Samples, work(g.Merge), work(g.Downsample)})
	}
	return a
}

// speed is the samples per second of a kind of jobs, NaN if unknown.
func speed(s plan.Speed) float64 {
	if v := s.PerSecond(); v > 0 {
		return v
	}
	return math.NaN()
}

// known returns nil for NaN and infinity, which JSON does not have.
func known(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// badBlocks are the quarantined blocks and those with an invalid meta.json, the newest
// problem first.
func (c *Compactor) badBlocks() []badAnswer {
	out := []badAnswer{}
	for id, q := range c.quarantined.all() {
		out = append(out, badAnswer{Block: id, Reason: q.reason, Details: q.details, Since: q.since, Quarantined: true, RetryAt: &q.until})
	}
	c.reportedMu.Lock()
	for id, r := range c.reported {
		out = append(out, badAnswer{Block: id, Reason: r.reason, Details: r.details, Since: r.since})
	}
	c.reportedMu.Unlock()
	v := c.seen.Load()
	for i := range out {
		if v != nil && v.Metas[out[i].Block] != nil {
			out[i].Group = plan.GroupName(v.Metas[out[i].Block], c.policy.ReplicaLabels)
		}
	}
	slices.SortFunc(out, func(x, y badAnswer) int { return cmp.Or(y.Since.Compare(x.Since), x.Block.Compare(y.Block)) })
	return out[:min(len(out), maxListed)]
}
