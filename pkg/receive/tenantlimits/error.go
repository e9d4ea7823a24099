package tenantlimits

import (
	"fmt"
	"time"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// KeyHeadSeries is the key of the limit of active series.
const KeyHeadSeries = "head_series_limit"

// Error is the error of a tenant above a limit.
type Error struct {
	Tenant string
	// Value is the limit, What the unit that it counts, and Key its key in the limits
	// file.
	Value int64
	What  string
	Key   string
	// Has describes the value that exceeds the limit; may be empty.
	Has string
	// RetryAfter is how long the sender should wait; 0 when waiting does not help.
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	text := fmt.Sprintf("tenant %s is above its limit of %d %s (%s)", e.Tenant, e.Value, e.What, e.Key)
	if e.Has != "" {
		text += ": " + e.Has
	}
	return text
}

// ErrorID returns the id of the limit.
func (e *Error) ErrorID() errorid.ID {
	if e.Key == KeyHeadSeries {
		return errorid.WriteSeriesLimit
	}
	return errorid.WriteRequestLimits
}

// ofRequest is about the content of one request.
func ofRequest(tenant string, most int64, what, key string, got int) error {
	return &Error{Tenant: tenant, Value: most, What: what + " in a request", Key: key, Has: fmt.Sprintf("this one has %d", got)}
}
