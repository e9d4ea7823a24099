package storeapi

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// Bounds of a Report: stores, and label sets and bytes of text of each.
const (
	maxMissing     = 500
	maxMissingSets = 10
	maxMissingText = 1024
)

// Missing is the data of a store that an answer lacks, or may lack.
type Missing struct {
	// Store is the name of the store, its address; "" when it is not known.
	Store string
	// LabelSets are those external label sets of the store that the request can
	// have selected, at most ten; none when they are not known.
	LabelSets []labels.Labels
	// MinTime and MaxTime bound the data within the range of the request, inclusive,
	// in milliseconds. Both are 0 when the request has no range.
	MinTime, MaxTime int64
	Reason           reason.Reason
	// Text is the error or the warning, for people.
	Text string
}

// Skipped is a store that was not asked although nothing is missing without it.
type Skipped struct {
	Store  string
	Reason reason.Reason
}

// Report says what one answer lacks. It travels in the context of the request, so
// that any code that meets a failure can add it; a fan-out does. It is complete
// once everything that reads for the request has ended. It may be used
// concurrently; a nil Report takes everything and keeps nothing.
type Report struct {
	mtx     sync.Mutex
	warned  bool
	missing []Missing
	skipped []Skipped
	// more counts the stores beyond maxMissing.
	more int
}

// Miss adds the data of a store. It widens an entry of the same store and
// reason.
func (r *Report) Miss(m Missing) {
	if r == nil {
		return
	}
	m.Text = shortened(m.Text)
	r.mtx.Lock()
	defer r.mtx.Unlock()
	i := slices.IndexFunc(r.missing, func(o Missing) bool { return o.Store == m.Store && o.Reason == m.Reason })
	switch {
	case i >= 0:
		r.missing[i].widen(m)
	case len(r.missing) < maxMissing:
		m.LabelSets = m.LabelSets[:min(len(m.LabelSets), maxMissingSets):min(len(m.LabelSets), maxMissingSets)]
		r.missing = append(r.missing, m)
	default:
		r.more++
	}
}

// widen adds the times and label sets of o. A range of zero length at 0 is none.
func (m *Missing) widen(o Missing) {
	switch {
	case o.MinTime == 0 && o.MaxTime == 0:
	case m.MinTime == 0 && m.MaxTime == 0:
		m.MinTime, m.MaxTime = o.MinTime, o.MaxTime
	default:
		m.MinTime, m.MaxTime = min(m.MinTime, o.MinTime), max(m.MaxTime, o.MaxTime)
	}
	for _, ls := range o.LabelSets {
		if len(m.LabelSets) < maxMissingSets && !slices.ContainsFunc(m.LabelSets, func(x labels.Labels) bool { return labels.Equal(x, ls) }) {
			m.LabelSets = append(m.LabelSets, ls)
		}
	}
}

// Concerned returns those external label sets of which any of the selectors can select
// series.
func Concerned(sets []labels.Labels, selectors [][]*labels.Matcher) []labels.Labels {
	var out []labels.Labels
	for _, ls := range sets {
		if slices.ContainsFunc(selectors, func(ms []*labels.Matcher) bool {
			_, ok := MatchExternal(ls, ms)
			return ok
		}) {
			out = append(out, ls)
		}
	}
	return out
}

// MissEach notes each of the warnings that says that something is missing. m is what the
// store has that the answer lacks.
func (r *Report) MissEach(m Missing, ws Warnings) {
	m.Reason = reason.StoreWarning
	for _, w := range ws {
		if !w.LacksNothing() {
			m.Text = w.Text
			r.Miss(m)
		}
	}
}

// Warn notes a warning of the answer. Unless it says that nothing is missing, its
// source counts as missing, if the report does not know better already.
func (r *Report) Warn(w Warning) {
	if r == nil {
		return
	}
	r.mtx.Lock()
	r.warned = true
	known := w.LacksNothing() || slices.ContainsFunc(r.missing, func(m Missing) bool {
		return m.Store == w.Source || w.Source == "" && m.Text == shortened(w.Text)
	})
	r.mtx.Unlock()
	if !known {
		r.Miss(Missing{Store: w.Source, Reason: reason.StoreWarning, Text: w.Text})
	}
}

// Skip notes that a store was not asked, and that nothing is missing without it.
func (r *Report) Skip(s Skipped) {
	if r == nil {
		return
	}
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if len(r.skipped) < maxMissing && !slices.Contains(r.skipped, s) {
		r.skipped = append(r.skipped, s)
	}
}

// Warned reports whether the answer has a warning, whether or not it lacks
// something.
func (r *Report) Warned() bool {
	if r == nil {
		return false
	}
	r.mtx.Lock()
	defer r.mtx.Unlock()
	return r.warned || len(r.missing) > 0
}

// Missing returns what the answer lacks, in the order of the names, and the number
// of entries beyond the bound of the report.
func (r *Report) Missing() (all []Missing, more int) {
	if r == nil {
		return nil, 0
	}
	r.mtx.Lock()
	defer r.mtx.Unlock()
	all = slices.Clone(r.missing)
	slices.SortStableFunc(all, func(a, b Missing) int {
		return cmp.Or(strings.Compare(a.Store, b.Store), cmp.Compare(a.Reason, b.Reason))
	})
	return all, r.more
}

// Skipped returns the stores that were not asked, in the order of their names.
func (r *Report) Skipped() []Skipped {
	if r == nil {
		return nil
	}
	r.mtx.Lock()
	defer r.mtx.Unlock()
	out := slices.Clone(r.skipped)
	slices.SortFunc(out, func(a, b Skipped) int {
		return cmp.Or(strings.Compare(a.Store, b.Store), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}

type reportKey struct{}

// NewReportContext returns ctx with a new report.
func NewReportContext(ctx context.Context) (context.Context, *Report) {
	r := &Report{}
	return context.WithValue(ctx, reportKey{}, r), r
}

// ReportFromContext returns the report of ctx, or nil.
func ReportFromContext(ctx context.Context) *Report {
	r, _ := ctx.Value(reportKey{}).(*Report)
	return r
}

// ReasonOf is the reason why a store that failed with err is missing. An error
// that knows better has a method MissingReason.
func ReasonOf(err error) reason.Reason {
	var own interface{ MissingReason() reason.Reason }
	switch {
	case errors.As(err, &own):
		return own.MissingReason()
	case errors.Is(err, limit.ErrExceeded):
		return reason.StoreLimit
	case errors.Is(err, ErrSilent), errors.Is(err, context.DeadlineExceeded):
		return reason.StoreTimeout
	}
	return reason.StoreFailed
}

func shortened(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) > maxMissingText {
		return strings.ToValidUTF8(text[:maxMissingText], "") + "…"
	}
	return text
}
