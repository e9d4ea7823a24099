package aggr

import "github.com/hindsight-io/hindsight/pkg/storeapi"

// Aggregates and Data are those of the read path; blocks on disk have the same.
type (
	Aggregates = storeapi.Aggregates
	Data       = storeapi.Data
)
