package reason

// Reasons why a block of a TSDB directory is not shipped.
const (
	// NoSamples: the block is empty.
	NoSamples Reason = "no_samples"
	// SourcesNotShipped: the block is compacted, and not all blocks that it was
	// made of were shipped.
	SourcesNotShipped Reason = "sources_not_shipped"
	// SourcesInBucket: the bucket has the blocks that the compacted block was made
	// of.
	SourcesInBucket Reason = "sources_in_bucket"
	// VanishedFromBucket: the bucket does not have a block that was shipped, and
	// neither a mark for its deletion nor a block that replaces it.
	VanishedFromBucket Reason = "vanished_from_bucket"
)
