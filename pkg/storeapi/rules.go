package storeapi

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/limit"
)

// RuleType chooses rules by their kind.
type RuleType int

// The numbers are those of the protocol.
const (
	RuleAny RuleType = iota
	RuleAlert
	RuleRecord
)

// RulesRequest asks for the groups of rules that servers evaluate.
type RulesRequest struct {
	Type RuleType
	// Matchers are on the labels of rules; a rule must satisfy all matchers of
	// all sets. A label whose value is a template counts as absent, because its
	// value is known for each alert only.
	Matchers [][]*labels.Matcher
	// Names, Groups and Files choose rules by their name, and groups by their
	// name and file; empty chooses all.
	Names, Groups, Files []string
	// Partial is the answer to a failure of a part of the stores.
	Partial PartialResponse
	// StoreMatchers select the stores of a fan-out as in a Request. Never sent
	// over the wire.
	StoreMatchers [][]*labels.Matcher
	// Budget bounds the answers of all stores together; nil means no bound but
	// that for each. Never sent over the wire.
	Budget *limit.Budget
}

// RuleGroup is a group of rules of one file, at least one.
type RuleGroup struct {
	Name, File string
	Rules      []Rule
	// Interval is how often the group is evaluated, in seconds.
	Interval float64
	// Limit is the number of series or alerts that a rule may produce; 0 means
	// no limit.
	Limit int64
	// EvaluationTime is how long the last evaluation took, in seconds.
	EvaluationTime float64
	LastEvaluation time.Time
	Partial        PartialResponse
}

// Rule is a recording rule or, with Alerting, an alerting rule.
type Rule struct {
	Alerting    bool
	Name, Query string
	Labels      labels.Labels
	// Health is "ok", "err" or "unknown".
	Health, LastError string
	// EvaluationTime is how long the last evaluation took, in seconds.
	EvaluationTime float64
	LastEvaluation time.Time

	// The rest is about alerting rules. Durations are in seconds.
	State              AlertState
	For, KeepFiringFor float64
	Annotations        labels.Labels
	Alerts             []Alert
}

// Alert is one active alert of a rule.
type Alert struct {
	Labels, Annotations labels.Labels
	State               AlertState
	// ActiveAt is the zero time when it is not known.
	ActiveAt time.Time
	// Value is the value of the expression, as text.
	Value   string
	Partial PartialResponse
}

// AlertState is the state of a rule or an alert. A higher one is more urgent.
type AlertState int

// The numbers are those of the protocol.
const (
	AlertUnknown AlertState = iota
	AlertInactive
	AlertPending
	AlertFiring
)

// String is the name that the HTTP API has for the state.
func (s AlertState) String() string {
	switch s {
	case AlertInactive:
		return "inactive"
	case AlertPending:
		return "pending"
	case AlertFiring:
		return "firing"
	}
	return "unknown"
}

// ParseAlertState is the inverse of String; unknown names are AlertUnknown.
func ParseAlertState(s string) AlertState {
	for _, st := range []AlertState{AlertInactive, AlertPending, AlertFiring} {
		if s == st.String() {
			return st
		}
	}
	return AlertUnknown
}

// RuleStore is a source of rules.
type RuleStore interface {
	// Rules returns the groups that have rules which r chooses, with these rules
	// only, sorted by file and name; each file and name occurs once. External
	// labels are added to the labels of rules and alerts. The answer belongs to
	// the caller.
	Rules(ctx context.Context, r *RulesRequest) ([]RuleGroup, Warnings, error)
}
