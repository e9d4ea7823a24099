package reason

// Reasons why a block is neither merged nor downsampled: its meta.json cannot be
// planned with.
const (
	// TimesOutOfRange: times of the block are outside the years 0 to 9999.
	TimesOutOfRange Reason = "times_out_of_range"
	// EmptyTimeRange: the block ends at or before its beginning.
	EmptyTimeRange Reason = "empty_time_range"
	// TimeRangeTooLong: the block is longer than any block that is merged.
	TimeRangeTooLong Reason = "time_range_too_long"
	// InTheFuture: the block begins after the current time.
	InTheFuture Reason = "in_the_future"
	// UnknownResolution: the block has a resolution that is never made.
	UnknownResolution Reason = "unknown_resolution"
)

// Reasons of the compactor about the blocks of a job.
const (
	// NotCopies: the blocks are of replicas that are no copies of each other.
	NotCopies Reason = "replicas_not_copies"
	// JobPanicked: a job on the blocks ended in a panic.
	JobPanicked Reason = "job_panicked"
	// ResultMismatch: the result of a job on the blocks differed from them.
	ResultMismatch Reason = "result_mismatch"
	// NothingToDownsample: all samples of the block are stale markers or NaN.
	NothingToDownsample Reason = "nothing_to_downsample"
)
