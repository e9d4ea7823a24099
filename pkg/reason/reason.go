// Package reason is the vocabulary of the label "reason" of metrics and of the
// key "reason" of log lines: one constant for one idea, in snake_case, whichever
// role or protocol reports it. Alerts match these values, so that a change of one
// belongs into the changelog.
//
// Values that other programs define are not here: the reasons in marks of a
// bucket, and the error types of the Prometheus HTTP API.
package reason

import "github.com/hindsight-io/hindsight/pkg/errorid"

// Reason says why something was refused, skipped or lost.
type Reason string

// String returns the label value.
func (r Reason) String() string { return string(r) }

// ErrorID returns the id of the page that explains the reason, the empty one for reasons
// that are no error.
func (r Reason) ErrorID() errorid.ID { return ids[r] }

// ids has the id of each reason that users meet as an error.
var ids = map[Reason]errorid.ID{
	BlockMetaMissing: errorid.BlockMeta, BlockMetaMalformed: errorid.BlockMeta, BlockMetaRefused: errorid.BlockMeta,
	BlockMetaVersion: errorid.BlockMeta, BlockMetaForeign: errorid.BlockMeta, BlockMarkMalformed: errorid.BlockMark,
	BlockIndexCorrupt: errorid.BlockCorrupt, BlockSeriesOutOfOrder: errorid.BlockCorrupt, BlockChunkCorrupt: errorid.BlockCorrupt,
	BlockChunkTimes: errorid.BlockCorrupt, BlockSampleTimes: errorid.BlockCorrupt, BlockSegmentCorrupt: errorid.BlockCorrupt, BlockSizeMismatch: errorid.BlockCorrupt,
	BlockHashMismatch: errorid.BlockCorrupt, BlockDamaged: errorid.BlockCorrupt, BlockUnreadable: errorid.BlockUnreadable,

	TimesOutOfRange: errorid.BlockTimes, EmptyTimeRange: errorid.BlockTimes, TimeRangeTooLong: errorid.BlockTimes,
	InTheFuture: errorid.BlockTimes, UnknownResolution: errorid.BlockTimes,
	NotCopies: errorid.BlockNotCopies, JobPanicked: errorid.JobPanicked, ResultMismatch: errorid.BlockMismatch,

	MemberLost: errorid.MemberLost,

	FederateInvalid: errorid.QueryInvalid, FederateLimit: errorid.LimitFederate,

	SourcesNotShipped: errorid.BlockNotShipped, VanishedFromBucket: errorid.BlockVanished,

	StoreNeverReached: errorid.StoreNeverReached, StoreNotFound: errorid.StoreNoAddress, StoreDown: errorid.StoreDown,
	StoreTimeout: errorid.StoreTimeout, StoreFailed: errorid.StoreFailed, StoreLimit: errorid.StoreLimit,
	StoreInvalidData: errorid.StoreInvalidData, StoreWarning: errorid.StoreWarning,
	StoreIsSelf: errorid.StoreLoop, StoreInLoop: errorid.StoreLoop,

	Malformed: errorid.WriteMalformed, MalformedMetadata: errorid.WriteMalformed, MalformedSeries: errorid.WriteMalformed,
	MalformedExemplar: errorid.WriteExemplar, OutOfOrderExemplar: errorid.WriteExemplar, ExemplarLabelsTooLong: errorid.WriteExemplar,
	InvalidSample: errorid.WriteSample, DuplicateLabel: errorid.WriteLabels, EmptyLabelName: errorid.WriteLabels,
	InvalidUTF8: errorid.WriteLabels, NoLabels: errorid.WriteLabels, NoMetricName: errorid.WriteLabels,
	LabelNameTooLong: errorid.WriteLabelLimits, LabelValueTooLong: errorid.WriteLabelLimits, LabelTooLong: errorid.WriteLabelLimits,
	TooManyLabels: errorid.WriteLabelLimits, DuplicateTimestamp: errorid.WriteDuplicate, OutOfOrder: errorid.WriteOutOfOrder,
	OutOfBounds: errorid.WriteTooOld, TooOld: errorid.WriteTooOld, TooFarInPast: errorid.WriteTooOld, TooFarInFuture: errorid.WriteInFuture,
	InvalidResource: errorid.WriteOTLP, InvalidResourceAttribute: errorid.WriteOTLP, InvalidScope: errorid.WriteOTLP,
	InvalidMetricName: errorid.WriteOTLP, InvalidDataPoint: errorid.WriteOTLP, UnknownMetricType: errorid.WriteOTLP,
	NotCumulative: errorid.WriteOTLP, NotTranslatable: errorid.WriteOTLP,
	SeriesLimit: errorid.WriteSeriesLimit, TooManyConnections: errorid.TooManyConnections, QueueFull: errorid.PeerQueueFull,
	PeerNotAnswering: errorid.PeerNotAnswering,
}
