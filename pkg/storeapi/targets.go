package storeapi

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/limit"
)

// TargetState chooses targets.
type TargetState int

// The numbers are those of the protocol.
const (
	TargetAny TargetState = iota
	TargetActive
	TargetDropped
)

// TargetsRequest asks for the targets that servers scrape or dropped.
type TargetsRequest struct {
	State TargetState
	// Partial is the answer to a failure of a part of the stores.
	Partial PartialResponse
	// StoreMatchers select the stores of a fan-out as in a Request. Never sent
	// over the wire.
	StoreMatchers [][]*labels.Matcher
	// Budget bounds the answers of all stores together; nil means no bound but
	// that for each. Never sent over the wire.
	Budget *limit.Budget
}

// Targets are those that servers found by discovery.
type Targets struct {
	Active []ActiveTarget
	// Dropped are the labels as discovered of those that relabelling dropped.
	Dropped []labels.Labels
}

// ActiveTarget is a target that is scraped.
type ActiveTarget struct {
	// Discovered are the labels before relabelling, Labels those after it.
	Discovered, Labels   labels.Labels
	ScrapePool           string
	ScrapeURL, GlobalURL string
	LastError            string
	LastScrape           time.Time
	LastScrapeDuration   float64 // seconds
	Health               TargetHealth
}

// TargetHealth is the outcome of the last scrape.
type TargetHealth int

// The numbers are those of the protocol. Of the replicas of a target the one
// with the lower number is shown.
const (
	TargetDown TargetHealth = iota
	TargetUp
	TargetUnknown
)

// String is the name that the HTTP API has for the health.
func (h TargetHealth) String() string {
	switch h {
	case TargetDown:
		return "down"
	case TargetUp:
		return "up"
	}
	return "unknown"
}

// ParseTargetHealth is the inverse of String; unknown names are TargetUnknown.
func ParseTargetHealth(s string) TargetHealth {
	switch s {
	case TargetDown.String():
		return TargetDown
	case TargetUp.String():
		return TargetUp
	}
	return TargetUnknown
}

// TargetStore is a source of targets.
type TargetStore interface {
	// Targets returns the targets that r chooses, external labels added to all
	// their label sets. The answer belongs to the caller.
	Targets(ctx context.Context, r *TargetsRequest) (Targets, Warnings, error)
}

// Choose drops the targets that are not of the state.
func (t *Targets) Choose(s TargetState) {
	switch s {
	case TargetActive:
		t.Dropped = nil
	case TargetDropped:
		t.Active = nil
	}
}

// MergeTargets drops the labels named in without from all targets and joins what
// then are the same ones: the one that is down stays, of equal ones that with the
// later scrape. It sorts by scrape pool, URL and labels, and uses the memory of t.
func MergeTargets(t Targets, without []string) Targets {
	d := labelDropper{names: without, b: labels.NewBuilder(labels.EmptyLabels())}
	for i := range t.Active {
		a := &t.Active[i]
		a.Discovered, a.Labels = d.drop(a.Discovered), d.drop(a.Labels)
	}
	for i := range t.Dropped {
		t.Dropped[i] = d.drop(t.Dropped[i])
	}
	slices.SortStableFunc(t.Active, func(a, b ActiveTarget) int {
		// The one that stays comes first.
		return cmp.Or(compareTargets(a, b), cmp.Compare(a.Health, b.Health), b.LastScrape.Compare(a.LastScrape))
	})
	t.Active = slices.CompactFunc(t.Active, func(a, b ActiveTarget) bool { return compareTargets(a, b) == 0 })
	slices.SortFunc(t.Dropped, labels.Compare)
	t.Dropped = slices.CompactFunc(t.Dropped, labels.Equal)
	return t
}

// compareTargets orders targets; 0 means that they are the same one.
func compareTargets(a, b ActiveTarget) int {
	return cmp.Or(
		cmp.Compare(a.ScrapePool, b.ScrapePool),
		cmp.Compare(a.ScrapeURL, b.ScrapeURL),
		labels.Compare(a.Labels, b.Labels),
		labels.Compare(a.Discovered, b.Discovered),
	)
}

// ExternalTargets adds the external labels to all targets, over labels of the same
// name. It changes t.
func ExternalTargets(ext labels.Labels, t Targets) {
	for i := range t.Active {
		a := &t.Active[i]
		a.Discovered, a.Labels = overlay(a.Discovered, ext), overlay(a.Labels, ext)
	}
	for i := range t.Dropped {
		t.Dropped[i] = overlay(t.Dropped[i], ext)
	}
}
