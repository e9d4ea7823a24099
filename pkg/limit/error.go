package limit

import (
	"fmt"
	"strings"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// ErrExceeded is what every Error wraps.
var ErrExceeded = errorid.Sentinel(errorid.LimitExceeded, "limit exceeded")

// Error says which limit a request exceeds. The user can narrow the request, or
// the operator raise the limit.
type Error struct {
	// A noun in plural for the limited thing: "series", "bytes of memory".
	What string
	// Flag sets the limit, and Max is its value.
	Flag string
	Max  int64
	// Needed is how much the request needed when it was ended; it may need more.
	Needed int64
	// Detail says where the limit was reached; empty where that is of no use.
	Detail string
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s: request needs at least %d %s, %s allows %d", ErrExceeded, e.Needed, e.What, e.Flag, e.Max)
	if e.Detail != "" {
		text += " (" + e.Detail + ")"
	}
	return text + "; narrow the request or raise the limit"
}

// Unwrap returns ErrExceeded.
func (e *Error) Unwrap() error { return ErrExceeded }

// ErrorID returns the id of the limit. Flag is the name of a flag, or the key of a
// limit of a tenant with words behind it.
func (e *Error) ErrorID() errorid.ID {
	name, _, _ := strings.Cut(strings.TrimPrefix(e.Flag, "--"), " ")
	switch strings.ReplaceAll(strings.TrimPrefix(name, "query."), "_", "-") {
	case "max-samples":
		return errorid.LimitQuerySamples
	case "max-fetched-series":
		return errorid.LimitQuerySeries
	case "max-fetched-chunks":
		return errorid.LimitQueryChunks
	case "max-fetched-bytes":
		return errorid.LimitQueryBytes
	case "max-list-entries":
		return errorid.LimitQueryList
	case "max-result-points":
		return errorid.LimitQueryPoints
	case "max-memory":
		return errorid.LimitQueryMemory
	case "store.limits.request-series":
		return errorid.LimitStoreSeries
	case "store.limits.request-samples":
		return errorid.LimitStoreSamples
	case "store.grpc.downloaded-bytes-limit":
		return errorid.LimitStoreBytes
	case "chunk-pool-size":
		return errorid.LimitStoreMemory
	case "memory", "store.recover-heads-memory", "tsdb.outage-memory":
		return errorid.LimitToolMemory
	case "disk", "store.recover-heads-disk":
		return errorid.LimitToolDisk
	}
	return errorid.LimitExceeded
}
