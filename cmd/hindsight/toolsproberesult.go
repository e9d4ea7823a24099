package main

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/hindsight-io/hindsight/pkg/probe"
)

// The paths of queries.
const (
	pathInstant   = "instant"
	pathRange     = "range"
	pathRaw       = "range_selector"
	pathSeries    = "series"
	pathLabels    = "labels"
	pathExemplars = "exemplars"
	pathFederate  = "federate"
)

// The ages of data.
const (
	ageRecent = "recent"
	ageOlder  = "older"
)

// maxProbeFindings bounds the findings of the result, maxProbeKnown those that are
// recognised when they are found again, and maxProbeLogged those that one query logs.
const (
	maxProbeLogged   = 10
	maxProbeFindings = 100
	maxProbeKnown    = 100_000
)

// probeView is one way to read.
type probeView struct {
	path  string
	dedup bool
	age   string
}

// views returns the ways to read that the flags choose. Labels are the same with replicas
// and without, exemplars are few and new, and /federate has the present.
func (c *probeConfig) views() (out []probeView) {
	for _, age := range []string{ageRecent, ageOlder} {
		for _, dedup := range []bool{true, false} {
			for _, path := range []string{pathInstant, pathRange, pathRaw, pathSeries} {
				out = append(out, probeView{path, dedup, age})
			}
		}
		out = append(out, probeView{pathLabels, true, age})
	}
	if c.exemplars {
		out = append(out, probeView{pathExemplars, true, ageRecent})
	}
	if c.federate {
		out = append(out, probeView{pathFederate, true, ageRecent})
	}
	return out
}

// probeRow is the result of one way to read.
type probeRow struct {
	Path       string `json:"path" yaml:"path"`
	Dedup      bool   `json:"dedup" yaml:"dedup"`
	Age        string `json:"age" yaml:"age"`
	Queries    int    `json:"queries" yaml:"queries"`
	Failed     int    `json:"failed" yaml:"failed"`
	Checked    int    `json:"checked" yaml:"checked"`
	Lost       int    `json:"lost" yaml:"lost"`
	Wrong      int    `json:"wrong" yaml:"wrong"`
	Duplicates int    `json:"duplicates" yaml:"duplicates"`
}

// probeFinding is one problem.
type probeFinding struct {
	Problem string `json:"problem" yaml:"problem"`
	Path    string `json:"path" yaml:"path"`
	Dedup   bool   `json:"dedup" yaml:"dedup"`
	Series  string `json:"series" yaml:"series"`
	Time    string `json:"time" yaml:"time"`
	Details string `json:"details" yaml:"details"`
}

// probeSummary is the result as JSON and YAML.
type probeSummary struct {
	Written      int         `json:"written" yaml:"written"`
	Acknowledged int         `json:"acknowledged" yaml:"acknowledged"`
	FailedWrites int         `json:"failedWrites" yaml:"failedWrites"`
	MaxDelay     float64     `json:"maxDelaySeconds" yaml:"maxDelaySeconds"`
	Paths        []*probeRow `json:"paths" yaml:"paths"`
	// Findings has the first ones; Total counts all.
	Total    int            `json:"total" yaml:"total"`
	Findings []probeFinding `json:"findings" yaml:"findings"`
}

// probeResult counts, for the metrics page and for the end.
type probeResult struct {
	summary probeSummary
	rows    map[probeView]*probeRow
	known   map[string]bool

	writes, acks, failed         *prometheus.CounterVec
	delay                        prometheus.Histogram
	queries, queryFails, samples *prometheus.CounterVec
	lost, wrong, duplicates      *prometheus.CounterVec
}

// newProbeResult registers the metrics; each label set that can be is there from the
// begin, so that a rate sees its first event.
func newProbeResult(c *probeConfig, reg prometheus.Registerer) *probeResult {
	f := promauto.With(reg)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "hindsight_probe_" + name, Help: help}, labels)
	}
	r := &probeResult{
		rows: map[probeView]*probeRow{}, known: map[string]bool{},
		writes: counter("written_samples_total", "Samples sent.", "protocol"),
		acks:   counter("acknowledged_samples_total", "Samples that the server acknowledged.", "protocol"),
		failed: counter("write_failures_total", "Writes that were not acknowledged.", "protocol"),
		delay: f.NewHistogram(prometheus.HistogramOpts{
			Name: "hindsight_probe_delay_seconds", Help: "Time from the acknowledgement of samples until a query had them all.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 14),
		}),
	}
	byView := []string{"path", "dedup", "age"}
	r.queries = counter("queries_total", "Queries sent.", byView...)
	r.queryFails = counter("query_failures_total", "Queries that failed, or whose answer had warnings.", byView...)
	r.samples = counter("checked_samples_total", "Samples of answers, or series or names of lists, that were compared.", byView...)
	r.lost = counter("lost_samples_total", "Acknowledged samples that an answer lacked, each counted once; for a list, series or names.", byView...)
	r.wrong = counter("wrong_values_total", "Samples of answers with another value or time than was written, each counted once.", byView...)
	r.duplicates = counter("duplicates_total", "Series or timestamps that an answer had twice, each counted once.", byView...)
	for _, v := range c.views() {
		row := &probeRow{Path: v.path, Dedup: v.dedup, Age: v.age}
		r.rows[v] = row
		r.summary.Paths = append(r.summary.Paths, row)
		for _, m := range []*prometheus.CounterVec{r.queries, r.queryFails, r.samples, r.lost, r.wrong, r.duplicates} {
			m.WithLabelValues(v.labels()...)
		}
	}
	for _, p := range c.protocols {
		for _, m := range []*prometheus.CounterVec{r.writes, r.acks, r.failed} {
			m.WithLabelValues(p)
		}
	}
	return r
}

func (v probeView) labels() []string { return []string{v.path, strconv.FormatBool(v.dedup), v.age} }

func (r *probeResult) written(protocol string, n int) {
	r.summary.Written += n
	r.writes.WithLabelValues(protocol).Add(float64(n))
}

func (r *probeResult) acknowledged(protocol string, n int) {
	r.summary.Acknowledged += n
	r.acks.WithLabelValues(protocol).Add(float64(n))
}

func (r *probeResult) writeFailed(protocol string) {
	r.summary.FailedWrites++
	r.failed.WithLabelValues(protocol).Inc()
}

func (r *probeResult) visible(d time.Duration) {
	r.summary.MaxDelay = max(r.summary.MaxDelay, d.Seconds())
	r.delay.Observe(d.Seconds())
}

func (r *probeResult) readFailed(v probeView) {
	r.rows[v].Queries++
	r.rows[v].Failed++
	r.queries.WithLabelValues(v.labels()...).Inc()
	r.queryFails.WithLabelValues(v.labels()...).Inc()
}

// checked counts the result of one query and returns the first findings that are new.
func (r *probeResult) checked(v probeView, res probe.Result) (fresh []probe.Finding) {
	row, lv := r.rows[v], v.labels()
	row.Queries++
	row.Checked += res.Checked
	r.queries.WithLabelValues(lv...).Inc()
	r.samples.WithLabelValues(lv...).Add(float64(res.Checked))
	for _, f := range res.Findings {
		key := fmt.Sprint(v, f.Problem, f.Series, f.Time)
		if f.Problem == probe.Duplicate {
			// The time of a duplicate series is the begin of the range, which moves.
			key = fmt.Sprint(v, f.Problem, f.Series, f.Details)
		}
		if r.known[key] {
			continue
		}
		if len(r.known) >= maxProbeKnown {
			clear(r.known)
		}
		r.known[key] = true
		switch f.Problem {
		case probe.Lost:
			row.Lost++
			r.lost.WithLabelValues(lv...).Inc()
		case probe.Wrong:
			row.Wrong++
			r.wrong.WithLabelValues(lv...).Inc()
		default:
			row.Duplicates++
			r.duplicates.WithLabelValues(lv...).Inc()
		}
		r.summary.Total++
		if len(r.summary.Findings) < maxProbeFindings {
			r.summary.Findings = append(r.summary.Findings, probeFinding{
				Problem: f.Problem, Path: v.path, Dedup: v.dedup, Series: f.Series,
				Time: time.UnixMilli(f.Time).UTC().Format("2006-01-02T15:04:05.000Z07:00"), Details: f.Details,
			})
		}
		if len(fresh) < maxProbeLogged {
			fresh = append(fresh, f)
		}
	}
	return fresh
}

// print writes the result; a table of findings follows that of the paths.
func (r *probeResult) print(out printer, form string) error {
	if r.summary.Findings == nil {
		r.summary.Findings = []probeFinding{}
	}
	rep := report{list: r.summary, header: []string{"PATH", "DEDUP", "AGE", "QUERIES", "FAILED", "CHECKED", "LOST", "WRONG", "DUPLICATES"}}
	for _, row := range r.summary.Paths {
		cells := []string{row.Path, strconv.FormatBool(row.Dedup), row.Age}
		for _, n := range []int{row.Queries, row.Failed, row.Checked, row.Lost, row.Wrong, row.Duplicates} {
			cells = append(cells, strconv.Itoa(n))
		}
		rep.cells = append(rep.cells, cells)
	}
	if err := rep.print(out, form); err != nil || form != outputTable {
		return err
	}
	s := r.summary
	fmt.Fprintf(out, "\n%d samples written, %d acknowledged, %d writes failed; the longest delay was %.3f s\n", s.Written, s.Acknowledged, s.FailedWrites, s.MaxDelay)
	if s.Total == 0 {
		return nil
	}
	fmt.Fprintln(out)
	list := report{header: []string{"PROBLEM", "PATH", "DEDUP", "SERIES", "TIME", "DETAILS"}}
	for _, f := range s.Findings {
		list.cells = append(list.cells, []string{f.Problem, f.Path, strconv.FormatBool(f.Dedup), f.Series, f.Time, f.Details})
	}
	return list.print(out, form)
}

// err returns an error when there are findings, or when a path of recent data has
// compared nothing: such a run proves nothing.
func (r *probeResult) err() error {
	if r.summary.Total > 0 {
		return findings(r.summary.Total)
	}
	var errs []error
	for _, row := range r.summary.Paths {
		if row.Age == ageRecent && row.Checked == 0 {
			errs = append(errs, fmt.Errorf("path %s (dedup=%t): nothing was checked; %d of %d queries failed", row.Path, row.Dedup, row.Failed, row.Queries))
		}
	}
	if r.summary.Acknowledged == 0 {
		errs = append(errs, errors.New("no write was acknowledged"))
	}
	return errors.Join(errs...)
}
