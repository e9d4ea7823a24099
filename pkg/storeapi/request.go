package storeapi

import "github.com/prometheus/prometheus/model/labels"

// Request is everything that one read asks for. Nothing else travels beside it
// in the context, except the trace, the tenant, the hops, and the Report of what
// the answer lacks.
//
// A Request must not be changed once it was passed to a Store; a Store that
// changes it copies it first.
type Request struct {
	// MinTime and MaxTime bound the wanted samples, inclusive, in milliseconds.
	MinTime, MaxTime int64
	// Matchers are combined with AND. An absent label is the empty string.
	Matchers []*labels.Matcher
	// MaxResolution is the coarsest downsampling resolution, in milliseconds,
	// that is acceptable; 0 means raw data only.
	MaxResolution int64
	// FillCoarser asks for coarser data than that for a time of which the store
	// has nothing else left. The caller must be able to read aggregates.
	FillCoarser bool
	// Aggregates are the wanted aggregates of downsampled chunks.
	// Raw chunks are always returned as they are.
	Aggregates []Aggregate
	// WithoutReplicaLabels are removed from the returned label sets.
	WithoutReplicaLabels []string
	// SortWithout asks for the order of the label sets without these labels, and then
	// of the full label sets; the labels stay in the result. So the replicas of a
	// series follow each other and keep the labels that tell them apart.
	SortWithout []string
	// Limit is the largest number of series (or names, or values) to return; 0
	// means no limit.
	Limit int
	// SkipChunks asks for label sets only.
	SkipChunks bool
	// Shard, when not nil, asks for one vertical shard only.
	Shard *Shard
	// Partial is the answer to a failure of a part of the data.
	Partial PartialResponse
	// Hints describe the use of the data. They never change which samples are
	// right, only which may be left out or computed early. May be nil.
	Hints *Hints
	// BlockMatchers select blocks of a bucket by external labels and
	// __block_id.
	BlockMatchers []*labels.Matcher
	// StoreMatchers select the stores of a fan-out by the label __address__;
	// any of the sets must match. Never sent over the wire.
	StoreMatchers [][]*labels.Matcher
	// Account counts the series that a fan-out has to hold; it may be nil. Never sent
	// over the wire.
	Account Account
	// Columns says that the caller reads raw chunks in the encoding of package columnchunk
	// too. Never sent over the wire.
	Columns bool
	// WantStats asks for statistics in SeriesSet.Stats beyond those counted
	// anyway.
	WantStats bool
}

// PartialResponse is the effect of a missing part on an answer.
type PartialResponse int

const (
	// PartialWarn returns the available part, with a warning for each missing one.
	PartialWarn PartialResponse = iota
	// PartialAbort fails the request.
	PartialAbort
)

// Aggregate is one of the five aggregates of a downsampled chunk, or the raw
// data. The numbers are those of the wire.
type Aggregate int

// The aggregates, numbered as on the wire.
const (
	AggregateRaw Aggregate = iota
	AggregateCount
	AggregateSum
	AggregateMin
	AggregateMax
	AggregateCounter
)

// Hints are the PromQL engine's description of the use of the data.
type Hints struct {
	StepMillis  int64
	Func        string
	RangeMillis int64
	Grouping    []string
	By          bool
	// ProjectionLabels are the only labels that the query needs (or, without
	// ProjectionInclude, those that it does not need).
	ProjectionLabels    []string
	ProjectionInclude   bool
	SeriesHashLabelName string
}
