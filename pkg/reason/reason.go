// Package reason is the vocabulary of the label "reason" of metrics and of the
// key "reason" of log lines: one constant for one idea, in snake_case, whichever
// role or protocol reports it. Alerts match these values, so that a change of one
// belongs into the changelog.
//
// Values that other programs define are not here: the reasons in marks of a
// bucket, and the error types of the Prometheus HTTP API.
package reason

// Reason says why something was refused, skipped or lost.
type Reason string

// String returns the label value.
func (r Reason) String() string { return string(r) }
