package probe

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The problems that a check finds.
const (
	// Lost is an acknowledged sample, or the series or name of one, that an answer lacks.
	Lost = "lost"
	// Wrong is another value than the one that was written, or a sample that was not.
	Wrong = "wrong"
	// Duplicate is a series or a timestamp that an answer has twice.
	Duplicate = "duplicate"
)

// maxPast bounds how far before a point its sample may be: the lookback of the server.
const maxPast = 5 * time.Minute

// Finding is one fault of an answer.
type Finding struct {
	Problem string
	Series  string
	// Time is the timestamp of the sample, in Unix milliseconds; of a series that is lost
	// or there twice, the begin of the range that was asked.
	Time    int64
	Details string
}

// Found is one series of an answer.
type Found struct {
	Labels map[string]string
	Points []Point
}

// Point is a timestamp in Unix milliseconds and a value as FloatText or HistogramText.
type Point struct {
	Time int64
	Text string
}

// Question is what was asked.
type Question struct {
	// From and Until are the first and the last step.
	From, Until int64
	// By is the time before which a sample must have been acknowledged to be required.
	By time.Time
	// Replicas says that a series may be there more than once with different external
	// labels, because the server was asked not to deduplicate. Together they have to hold
	// all samples.
	Replicas bool
}

// Result is the outcome of a check.
type Result struct {
	// Checked counts the samples, series or names that were compared with what was written.
	Checked  int
	Findings []Finding
}

// Lacks says whether something is lost.
func (r Result) Lacks() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Problem == Lost })
}

// checking is one check under way.
type checking struct {
	*Ledger
	q   Question
	out Result
}

func (c *checking) add(problem string, s Sample, format string, args ...any) {
	c.out.Findings = append(c.out.Findings, Finding{
		Problem: problem, Series: c.set.series[s.Series].String(), Time: c.set.Time(s.Step), Details: fmt.Sprintf(format, args...),
	})
}

// group returns the series of an answer by index. A label set that is there twice, and
// without Replicas a series that is there twice, is a duplicate.
func (c *checking) group(found []Found) map[int][]Found {
	out, sets := map[int][]Found{}, map[string]bool{}
	for _, f := range found {
		i, ok := c.set.byKey[keyOf(f.Labels)]
		if !ok {
			// Another number of series, or of protocols, of an earlier run.
			continue
		}
		at := Sample{Series: i, Step: c.q.From}
		all := labelText(f.Labels)
		switch {
		case sets[all]:
			c.add(Duplicate, at, "the answer has the label set %s twice", all)
		case len(out[i]) > 0 && !c.q.Replicas:
			c.add(Duplicate, at, "the answer has also %s: are the labels of replicas missing in --query.replica-label?", all)
		}
		sets[all] = true
		out[i] = append(out[i], f)
	}
	return out
}

// labelText returns labels in the notation of PromQL.
func labelText(labels map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, name+"="+strconv.Quote(labels[name]))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// Samples checks the samples of an answer with their own timestamps, as a range selector
// gives them.
func (l *Ledger) Samples(q Question, found []Found) Result {
	c := checking{Ledger: l, q: q}
	groups := c.group(found)
	ms := l.set.cfg.Interval.Milliseconds()
	for i, s := range l.set.series {
		seen := map[int64]bool{}
		for _, f := range groups[i] {
			last := int64(-1)
			for _, p := range f.Points {
				at := Sample{Series: i, Step: p.Time / ms}
				switch {
				case p.Time%ms != 0 || at.Step < q.From || at.Step > q.Until:
					c.add(Wrong, at, "a sample at %d was not written, or not asked for", p.Time)
					continue
				case p.Time <= last:
					c.add(Duplicate, at, "the answer has a timestamp twice, or timestamps in no order")
				case p.Text != s.text(at.Step):
					c.add(Wrong, at, "read %s, written %s", p.Text, s.text(at.Step))
				}
				c.out.Checked++
				last = p.Time
				seen[at.Step] = true
			}
		}
		for step := q.From; step <= q.Until; step++ {
			if at := (Sample{Series: i, Step: step}); !seen[step] && l.must(at, q.By) {
				c.add(Lost, at, "the answer lacks an acknowledged sample")
			}
		}
	}
	return c.out
}

// Evaluations checks the points that an instant vector selector has at the steps of the
// question: the newest sample at or before each. It may be older than its point as long as
// no newer one is required; one replica may lack any sample.
func (l *Ledger) Evaluations(q Question, found []Found) Result {
	c := checking{Ledger: l, q: q}
	groups := c.group(found)
	ms := l.set.cfg.Interval.Milliseconds()
	for i := range l.set.series {
		// newest has the step of the newest sample of each point, -1 for a wrong value.
		newest := map[int64]int64{}
		for _, f := range groups[i] {
			for _, p := range f.Points {
				at := Sample{Series: i, Step: p.Time / ms}
				if p.Time%ms != 0 || at.Step < q.From || at.Step > q.Until {
					c.add(Wrong, at, "a point at %d was not asked for", p.Time)
					continue
				}
				c.out.Checked++
				step := c.stepOf(at, p.Text)
				if step < 0 {
					c.add(Wrong, at, "read %s, written %s", p.Text, l.set.series[i].text(at.Step))
				}
				if before, ok := newest[at.Step]; !ok || step > before {
					newest[at.Step] = step
				}
			}
		}
		c.outdated(i, newest)
	}
	return c.out
}

// stepOf returns the newest step within the lookback of a point that has its value, -1 if
// none has.
func (c *checking) stepOf(at Sample, text string) int64 {
	for step := at.Step; step >= at.Step-maxPast.Milliseconds()/c.set.cfg.Interval.Milliseconds(); step-- {
		if text == c.set.series[at.Series].text(step) {
			return step
		}
	}
	return -1
}

// outdated reports points that are missing, or of which no replica has the newest required
// sample. A wrong value is reported already.
func (c *checking) outdated(series int, newest map[int64]int64) {
	for step := c.q.From; step <= c.q.Until; step++ {
		has, ok := newest[step]
		if at := (Sample{Series: series, Step: step}); !ok && c.must(at, c.q.By) {
			c.add(Lost, at, "the answer lacks an acknowledged sample")
		}
		for past := step; ok && has >= 0 && past > has; past-- {
			if at := (Sample{Series: series, Step: past}); c.must(at, c.q.By) {
				c.add(Lost, at, "the answer has the older sample of %d instead", c.set.Time(has))
				break
			}
		}
	}
}

// Listed checks a list of series: it has to name each series with a required sample.
func (l *Ledger) Listed(q Question, found []Found) Result {
	c := checking{Ledger: l, q: q}
	groups := c.group(found)
	for i := range l.set.series {
		if n := len(groups[i]); n > 0 {
			c.out.Checked += n
		} else if step, ok := l.required(i, q); ok {
			c.add(Lost, Sample{Series: i, Step: step}, "the list lacks a series with an acknowledged sample")
		}
	}
	return c.out
}

// Values checks the values of the label __name__, which has to have the name of each
// required series.
func (l *Ledger) Values(q Question, values []string) Result {
	c := checking{Ledger: l, q: q}
	counts := map[string]int{}
	for _, v := range values {
		if counts[v]++; counts[v] == 2 {
			c.out.Findings = append(c.out.Findings, Finding{Problem: Duplicate, Series: v, Time: l.set.Time(q.From), Details: "the list has the name twice"})
		}
	}
	missing := map[Kind]bool{}
	for i, s := range l.set.series {
		if counts[string(s.Kind)] > 0 {
			c.out.Checked++
		} else if step, ok := l.required(i, q); ok && !missing[s.Kind] {
			missing[s.Kind] = true
			c.add(Lost, Sample{Series: i, Step: step}, "the list lacks the name of a series with an acknowledged sample")
		}
	}
	return c.out
}

// required returns a step of the question that has a required sample of a series.
func (l *Ledger) required(series int, q Question) (int64, bool) {
	for step := q.From; step <= q.Until; step++ {
		if l.must(Sample{Series: series, Step: step}, q.By) {
			return step, true
		}
	}
	return 0, false
}

// Latest checks an answer of /federate: the newest sample of each series with its own
// timestamp. It has no native histograms.
func (l *Ledger) Latest(q Question, found []Found) Result {
	c := checking{Ledger: l, q: q}
	groups := c.group(found)
	ms := l.set.cfg.Interval.Milliseconds()
	for i, s := range l.set.series {
		if s.Kind == Histogram {
			continue
		}
		newest := int64(-1)
		for _, f := range groups[i] {
			for _, p := range f.Points {
				c.out.Checked++
				at := Sample{Series: i, Step: p.Time / ms}
				newest = max(newest, at.Step)
				if p.Time%ms != 0 || p.Text != s.text(at.Step) {
					c.add(Wrong, at, "read %s at %d, written %s", p.Text, p.Time, s.text(at.Step))
				}
			}
		}
		for step := q.Until; step >= q.From && step > newest; step-- {
			if at := (Sample{Series: i, Step: step}); l.must(at, q.By) {
				c.add(Lost, at, "the answer lacks the newest acknowledged sample")
				break
			}
		}
	}
	return c.out
}

// FoundExemplar is one exemplar of an answer.
type FoundExemplar struct {
	Labels  map[string]string // of its series
	TraceID string
	Value   float64
	Time    int64
}

// Exemplars checks the exemplars of the counters.
func (l *Ledger) Exemplars(q Question, found []FoundExemplar) Result {
	c := checking{Ledger: l, q: q}
	ms := l.set.cfg.Interval.Milliseconds()
	seen := map[Sample]bool{}
	for _, e := range found {
		i, ok := l.set.byKey[keyOf(e.Labels)]
		if !ok {
			continue
		}
		at := Sample{Series: i, Step: e.Time / ms}
		id, value := l.set.series[i].Exemplar(at.Step)
		c.out.Checked++
		switch {
		case e.Time%ms != 0 || e.TraceID != id || e.Value != value:
			c.add(Wrong, at, "read an exemplar of trace %s with %s at %d, written trace %s with %s", e.TraceID, FloatText(e.Value), e.Time, id, FloatText(value))
		case seen[at] && !q.Replicas:
			c.add(Duplicate, at, "the answer has an exemplar twice")
		}
		seen[at] = true
	}
	for i, s := range l.set.series {
		for step := q.From; s.Kind == Counter && step <= q.Until; step++ {
			if at := (Sample{Series: i, Step: step}); !seen[at] && l.must(at, q.By) {
				c.add(Lost, at, "the answer lacks the exemplar of an acknowledged sample")
			}
		}
	}
	return c.out
}
