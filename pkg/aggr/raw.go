package aggr

import "github.com/hindsight-io/hindsight/pkg/storeapi"

// Aggregates are those of the read path; blocks on disk have the same.
type Aggregates = storeapi.Aggregates

// Data is a chunk as the read path has it; blocks on disk have the same.
type Data = storeapi.Data
