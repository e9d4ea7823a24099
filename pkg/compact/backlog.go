package compact

import (
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

// foresee calculates the backlog after the first plan of a pass, and logs it.
func (c *Compactor) foresee(now time.Time) {
	v := c.seen.Load()
	pv, policy := c.planInput(v, nil, time.Now())
	c.progress.foresee(plan.Backlog(pv, policy, now), plan.Inflow(pv, policy, now))
	o := c.outlook()
	c.log.Info("backlog", "groups", len(o.backlog), "merge_blocks", o.merge.Blocks, "merge_samples", o.merge.Samples,
		"downsample_blocks", o.downsample.Blocks, "downsample_samples", o.downsample.Samples,
		"inflow_samples_per_second", math.Round(o.inflow), "eta", etaText(o.ETA), "keeps_up", o.Verdict)
}

// etaText is a number of seconds as a duration.
func etaText(seconds float64) string {
	switch {
	case math.IsNaN(seconds):
		return "unknown"
	case seconds > 100*365*24*3600:
		return "never"
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}

// backlogCollector has the metrics of the backlog, which it reads when it is asked.
type backlogCollector struct {
	c                                 *Compactor
	groupBlocks, groupSamples         *prometheus.Desc
	blocks, samples, speed            *prometheus.Desc
	inflow, load, eta, keepsUp, share *prometheus.Desc
}

func newBacklogCollector(c *Compactor) *backlogCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("hindsight_compact_"+name, help, labels, nil)
	}
	return &backlogCollector{
		c:            c,
		groupBlocks:  desc("group_backlog_blocks", "Inputs of all jobs until nothing is left to plan in a group, as of the last pass, also of jobs whose inputs do not exist yet; the 200 groups with the most samples.", "group"),
		groupSamples: desc("group_backlog_samples", "Samples in the inputs of all jobs until nothing is left to plan in a group, as of the last pass; the 200 groups with the most samples.", "group"),
		blocks:       desc("backlog_blocks", "Inputs of all jobs until nothing is left to plan, as of the last pass, in all groups.", "kind"),
		samples:      desc("backlog_samples", "Samples in the inputs of all jobs until nothing is left to plan, as of the last pass, in all groups.", "kind"),
		speed:        desc("speed_samples_per_second", "Samples of inputs that the jobs of a kind handle per second together, by the jobs of about the last hour of work; NaN before the first job has ended.", "kind"),
		inflow:       desc("inflow_samples_per_second", "Raw samples per second in the blocks of the last 24 hours of data, as of the last pass."),
		load:         desc("load_ratio", "Share of the time that new data needs; from 1 on the compactor falls behind. NaN is unknown."),
		eta:          desc("backlog_eta_seconds", "Seconds until the backlog is worked off while new data arrives; +Inf is never, NaN unknown."),
		keepsUp:      desc("keeps_up", "1 while new data needs less time than there is, 0 when the backlog grows, NaN while that is unknown."),
		share:        desc("job_progress_ratio", "Share of the samples of running jobs that was read.", "kind"),
	}
}

// Describe implements prometheus.Collector.
func (b *backlogCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{b.groupBlocks, b.groupSamples, b.blocks, b.samples, b.speed, b.inflow, b.load, b.eta, b.keepsUp, b.share} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (b *backlogCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	o := b.c.outlook()
	for i := range o.backlog[:min(len(o.backlog), maxGroups)] {
		g := &o.backlog[i]
		t := g.Total()
		gauge(b.groupBlocks, float64(t.Blocks), g.Group)
		gauge(b.groupSamples, float64(t.Samples), g.Group)
	}
	for k, w := range map[plan.Kind]plan.Work{plan.Merge: o.merge, plan.Downsample: o.downsample} {
		gauge(b.blocks, float64(w.Blocks), string(k))
		gauge(b.samples, float64(w.Samples), string(k))
		gauge(b.speed, speed(o.speeds[k]), string(k))
	}
	gauge(b.inflow, o.inflow)
	gauge(b.load, o.Load)
	gauge(b.eta, o.ETA)
	gauge(b.keepsUp, map[plan.Verdict]float64{plan.KeepsUp: 1, plan.FallsBehind: 0, plan.Unknown: math.NaN()}[o.Verdict])
	for k, s := range b.c.progress.shares() {
		gauge(b.share, s, string(k))
	}
}

// shares returns the shares of the running jobs by kind, weighted by samples.
func (p *progress) shares() map[plan.Kind]float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	read, total := map[plan.Kind]float64{}, map[plan.Kind]float64{}
	for j, r := range p.running {
		if r.samples > 0 && (j.Kind == plan.Merge || j.Kind == plan.Downsample) {
			read[j.Kind] += r.share() * float64(r.samples)
			total[j.Kind] += float64(r.samples)
		}
	}
	for k := range read {
		read[k] /= total[k]
	}
	return read
}

// barInterval is the time between two states of the progress bar.
const barInterval = time.Second

// showProgress draws a progress bar on the terminal until stop is called.
func (c *Compactor) showProgress() (stop func()) {
	if c.terminal == nil {
		return func() {}
	}
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(barInterval)
		defer t.Stop()
		for {
			select {
			case <-end:
				// Erases the bar.
				_, _ = io.WriteString(c.terminal, "\r\x1b[K")
				return
			case <-t.C:
				_, _ = io.WriteString(c.terminal, "\r\x1b[K"+c.bar()+"\r")
			}
		}
	})
	return func() {
		close(end)
		wg.Wait()
	}
}

// bar is the progress in one line of less than 80 columns: the share of the backlog of
// this pass that is done, and the jobs that run.
func (c *Compactor) bar() string {
	p := &c.progress
	p.mu.Lock()
	total, done := 0.0, float64(p.handled)
	for i := range p.backlog {
		total += float64(p.backlog[i].Total().Samples)
	}
	jobs := 0
	for j, r := range p.running {
		if j.Kind == plan.Merge || j.Kind == plan.Downsample {
			jobs++
			done += r.share() * float64(r.samples)
		}
	}
	planned := !p.planned.IsZero()
	p.mu.Unlock()
	if !planned {
		return "reading the bucket"
	}
	share := 1.0
	if total > 0 {
		share = min(1, done/total)
	}
	const width = 24
	full := int(share * width)
	o := c.outlook()
	eta := etaText(o.ETA * (1 - share))
	if total == 0 {
		eta = "0s"
	}
	return fmt.Sprintf("[%s%s] %3.0f%%  %d jobs run, %s left", strings.Repeat("#", full), strings.Repeat(".", width-full), 100*share, jobs, eta)
}
