package doctor

import (
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/claim"
)

// Input is what is known of the sources.
type Input struct {
	Now time.Time
	// Blocks are the usable blocks of the bucket that are not marked for deletion.
	Blocks []*block.Meta
	// Unusable are blocks whose meta.json cannot be used, with the reason.
	Unusable map[ulid.ULID]string
	Claims   []claim.Entry
	Heads    []Head
	Stores   []Store
	// Prometheus is nil when none was asked.
	Prometheus *Prometheus
}

// Head is a log of a Prometheus in the bucket.
type Head struct {
	Dir string
	// Labels are empty when they are not known.
	Labels labels.Labels
	// Modified is the time of the newest object.
	Modified time.Time
}

// Store is the announcement of a server of the StoreAPI.
type Store struct {
	Address   string
	Component string
	LabelSets []labels.Labels
	// MaxTime is the time of the newest sample in milliseconds; 0 is unknown, and a time
	// far in the future means that the store takes new samples.
	MaxTime  int64
	Warnings []string
	// Err is why it did not answer; empty when it did.
	Err string
}

// Prometheus is a server that was asked for its external labels.
type Prometheus struct {
	URL    string
	Labels labels.Labels
	Err    string
}

// Options say what counts as wrong.
type Options struct {
	// ReplicaLabels are the external labels in which replicas differ.
	ReplicaLabels []string
	// Lag is the age of the newest data above which a source has stopped.
	Lag time.Duration
	// Forget is the age above which a source that has stopped is no longer expected.
	Forget time.Duration
	// Skew is the difference of clocks that is reported.
	Skew time.Duration
}

// DefaultOptions are the defaults of the flags of "tools doctor".
func DefaultOptions() Options {
	return Options{
		ReplicaLabels: []string{"replica", "prometheus_replica"},
		Lag:           6 * time.Hour, Forget: 30 * 24 * time.Hour, Skew: 30 * time.Second,
	}
}

// Severity of a finding.
type Severity string

// The severities: data is lost, mixed or missing now; or that may follow.
const (
	severe  Severity = "error"
	warning Severity = "warning"
)

// Finding is one problem.
type Finding struct {
	Severity Severity `json:"severity" yaml:"severity"`
	// Kind is a constant in snake_case, for programs.
	Kind string `json:"kind" yaml:"kind"`
	// Subject is the label set, block, store or log that the finding is about.
	Subject string `json:"subject" yaml:"subject"`
	Details string `json:"details" yaml:"details"`
	// Advice says what to do.
	Advice string `json:"advice" yaml:"advice"`
}
