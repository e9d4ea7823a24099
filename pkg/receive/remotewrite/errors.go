package remotewrite

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// Kind classifies failed writes by the action of the sender.
type Kind int

// The kinds of failure, from the mildest for the sender's data.
const (
	// Other is a failure of this server that fits nowhere else.
	Other Kind = iota
	// Invalid data can never be stored.
	Invalid
	// Conflict is valid data that contradicts what is stored: out of order,
	// too old, duplicate.
	Conflict
	// LimitExceeded is data above a limit of the tenant that may be accepted
	// later.
	LimitExceeded
	// TooLarge is a request above a limit; it must be cut.
	TooLarge
	// NotReady is a node that cannot store yet, or no longer.
	NotReady
	// Unavailable is a node that cannot be reached, or too few of them.
	Unavailable
)

// String names the kind for metrics and messages.
func (k Kind) String() string {
	return [...]string{"other", "invalid", "conflict", "limit", "too_large", "not_ready", "unavailable"}[k]
}

// Status returns the HTTP status of the kind. Senders of remote write retry on 5xx
// and 429, and drop the data on others.
func (k Kind) Status() int {
	switch k {
	case Invalid:
		return http.StatusBadRequest
	case Conflict:
		return http.StatusConflict
	case LimitExceeded:
		return http.StatusTooManyRequests
	case TooLarge:
		return http.StatusRequestEntityTooLarge
	case NotReady, Unavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// ErrorID returns the id of the kind.
func (k Kind) ErrorID() errorid.ID {
	switch k {
	case Invalid:
		return errorid.WriteInvalid
	case Conflict:
		return errorid.WriteConflict
	case LimitExceeded:
		return errorid.WriteLimit
	case TooLarge:
		return errorid.WriteTooLarge
	case NotReady:
		return errorid.WriteNotReady
	case Unavailable:
		return errorid.WriteUnavailable
	default:
		return errorid.WriteFailed
	}
}

// WriteError is a failed write, or a failed part of one.
type WriteError struct {
	Kind Kind
	Err  error
	// Stored, when not nil, counts what was stored in spite of the failure.
	Stored *Counts
	// Missing counts the items that were not stored, in the order of the series. It
	// is complete when Stored is not nil.
	Missing []Missing
}

// Missing counts the items of one series, or of one replica set, that were not
// stored. Index is that of the series in its batch, or of the replica set in its
// part.
type Missing struct {
	Index int
	Counts
}

func (e *WriteError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *WriteError) Unwrap() error { return e.Err }

// ErrorID returns the id of the kind, which the id of a cause replaces.
func (e *WriteError) ErrorID() errorid.ID { return e.Kind.ErrorID() }

// Errorf makes a WriteError.
func Errorf(kind Kind, format string, args ...any) error {
	return &WriteError{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// ErrNotReady is an error of the kind NotReady.
var ErrNotReady = errorid.Sentinel(errorid.WriteNotReady, "not ready")

// KindOf returns the kind of err, Other when it has none.
func KindOf(err error) Kind {
	var (
		w        *WriteError
		tooLarge *TooLargeError
		series   *InvalidSeriesError
	)
	switch {
	case errors.As(err, &w):
		return w.Kind
	case errors.Is(err, ErrNotReady):
		return NotReady
	case errors.As(err, &tooLarge):
		return TooLarge
	case errors.As(err, &series), errors.Is(err, protoscan.ErrMalformed):
		return Invalid
	}
	return Other
}

// InvalidSeriesError is the error for the labels of a series.
type InvalidSeriesError struct {
	Reason reason.Reason
	Text   string
	Series string
}

func (e *InvalidSeriesError) Error() string {
	if e.Series == "" {
		return e.Text // of an item, whose caller knows the series
	}
	return fmt.Sprintf("%s (series %s)", e.Text, e.Series)
}

// ErrorID returns the id of the reason.
func (e *InvalidSeriesError) ErrorID() errorid.ID { return e.Reason.ErrorID() }

func invalidSeries(rawLabels []byte, why reason.Reason, text string) error {
	return &InvalidSeriesError{Reason: why, Text: text, Series: Text(rawLabels)}
}

// Rejected counts the parts of a batch that were not stored, by reason, with
// the first example of each. The zero value is empty.
type Rejected struct {
	reasons []rejection
	missing []Missing
}

type rejection struct {
	kind    Kind
	reason  reason.Reason
	count   int
	example string
}

// Add counts n rejected items. example is called for the first of a reason
// only.
func (r *Rejected) Add(kind Kind, why reason.Reason, n int, example func() string) {
	for i := range r.reasons {
		if r.reasons[i].reason == why && r.reasons[i].kind == kind {
			r.reasons[i].count += n
			return
		}
	}
	r.reasons = append(r.reasons, rejection{kind, why, n, example()})
}

// join adds the counts of others, whose examples belong to the series with these labels.
func (r *Rejected) join(others *Rejected, rawLabels []byte) {
	for _, x := range others.reasons {
		r.Add(x.kind, x.reason, x.count, func() string { return x.example + " (series " + Text(rawLabels) + ")" })
	}
}

// Miss counts items that were not stored of the series with this index. Calls come
// in the order of the series.
func (r *Rejected) Miss(index int, c Counts) { r.missing = AddMissing(r.missing, index, c) }

// AddMissing adds to the last entry when it has the same index.
func AddMissing(list []Missing, index int, c Counts) []Missing {
	if n := len(list); n > 0 && list[n-1].Index == index {
		list[n-1].Counts = list[n-1].Plus(c)
		return list
	}
	return append(list, Missing{index, c})
}

// Each calls f for every reason.
func (r *Rejected) Each(f func(kind Kind, why reason.Reason, n int)) {
	for _, x := range r.reasons {
		f(x.kind, x.reason, x.count)
	}
}

// StoredOf returns how much of a request was certainly stored when its write returned
// err.
func StoredOf(err error, all Counts) Counts {
	var w *WriteError
	switch {
	case err == nil:
		return all
	case errors.As(err, &w) && w.Stored != nil:
		return *w.Stored
	}
	return Counts{}
}

// Err returns nil when nothing was rejected. Otherwise the error has the highest kind:
// limits before conflicts before invalid data, so that the sender retries data that
// may be accepted later.
func (r *Rejected) Err(tenant string, stored *Counts) error {
	if len(r.reasons) == 0 {
		return nil
	}
	n := *stored
	kind, parts := Other, make([]string, 0, len(r.reasons))
	var id errorid.ID // of the first reason that decides the kind
	for _, x := range r.reasons {
		if id == "" || x.kind > kind {
			id = x.reason.ErrorID()
		}
		kind = max(kind, x.kind)
		parts = append(parts, fmt.Sprintf("%s: %d rejected, first: %s", x.reason, x.count, x.example))
	}
	return &WriteError{
		Kind: kind, Stored: &n, Missing: r.missing,
		Err: errorid.With(id, fmt.Errorf("tenant %s: everything valid was stored, but %s", tenant, strings.Join(parts, "; "))),
	}
}
