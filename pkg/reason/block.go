package reason

// Reasons why a block cannot be used.
const (
	// BlockMetaMissing: the block has no meta.json; its upload has not ended.
	BlockMetaMissing Reason = "meta_missing"
	// BlockMetaMalformed: meta.json is no JSON of the expected form.
	BlockMetaMalformed Reason = "meta_malformed"
	// BlockMetaRefused: the bucket refuses to give meta.json.
	BlockMetaRefused Reason = "meta_refused"
	// BlockMetaVersion: meta.json has a version that this program does not know.
	BlockMetaVersion Reason = "meta_version"
	// BlockMetaForeign: meta.json has the ULID of another block.
	BlockMetaForeign Reason = "meta_of_other_block"
	// BlockMarkMalformed: a mark of the block is no JSON of the expected form.
	BlockMarkMalformed Reason = "mark_malformed"
	// BlockIndexCorrupt: the index does not hold what it announces.
	BlockIndexCorrupt Reason = "index_corrupt"
	// BlockSeriesOutOfOrder: the series of the index are not sorted by labels.
	BlockSeriesOutOfOrder Reason = "series_out_of_order"
	// BlockChunkCorrupt: a chunk does not match its checksum or its encoding.
	BlockChunkCorrupt Reason = "chunk_corrupt"
	// BlockChunkTimes: a chunk has samples outside the time range of its block.
	BlockChunkTimes Reason = "chunk_outside_of_block"
	// BlockSampleTimes: samples of a chunk are out of order, or outside of the times that the
	// index has of the chunk.
	BlockSampleTimes Reason = "sample_times_wrong"
	// BlockSegmentCorrupt: a segment file of chunks is no such file, or ends early.
	BlockSegmentCorrupt Reason = "segment_corrupt"
	// BlockSizeMismatch: a file has another size than meta.json says.
	BlockSizeMismatch Reason = "size_mismatch"
	// BlockHashMismatch: a file has another hash than meta.json says.
	BlockHashMismatch Reason = "hash_mismatch"

	// BlockUnreadable: the bucket did not give a part of the block.
	BlockUnreadable Reason = "unreadable"
	// BlockDamaged: a part of the block is not what the format demands.
	BlockDamaged Reason = "corrupt"
)
