package probe

import "time"

// Ledger holds when samples were acknowledged.
type Ledger struct {
	set *Set
	// steps has the time of the acknowledgement of each series; zero is none.
	steps map[int64][]time.Time
	// oldest is the step before which Forget has removed everything.
	oldest int64
}

// NewLedger returns an empty ledger.
func NewLedger(s *Set) *Ledger { return &Ledger{set: s, steps: map[int64][]time.Time{}} }

// Acknowledged notes that the server has acknowledged samples at a time.
func (l *Ledger) Acknowledged(samples []Sample, at time.Time) {
	for _, s := range samples {
		if s.Step < l.oldest {
			continue
		}
		if l.steps[s.Step] == nil {
			l.steps[s.Step] = make([]time.Time, len(l.set.series))
		}
		l.steps[s.Step][s.Series] = at
	}
}

// Forget removes the records before a step. Their samples may be read or not, from then
// on, and their values are still checked.
func (l *Ledger) Forget(before int64) {
	for step := range l.steps {
		if step < before {
			delete(l.steps, step)
		}
	}
	l.oldest = max(l.oldest, before)
}

// must says whether a reader has to find the sample: it was acknowledged at or before by.
func (l *Ledger) must(s Sample, by time.Time) bool {
	times := l.steps[s.Step]
	return times != nil && !times[s.Series].IsZero() && !times[s.Series].After(by)
}
