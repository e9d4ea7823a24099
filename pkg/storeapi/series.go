package storeapi

import (
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// SeriesSet is a stream of series that the reader pulls.
//
// Order: ascending, as Store.Select says. Equal label sets may follow each other
// (a series split over frames, or two replicas whose replica label was
// removed); Merge joins them.
//
// Ownership: the label set of At is immutable and stays valid for ever, though
// keeping it may keep a whole frame of the stream in memory. The Chunks slice of
// At is valid until the next call of Next, the bytes inside the chunks until
// Close; see RecyclingSet for an exception. They must not be written to.
//
// A set belongs to one goroutine. The caller of Select calls Close exactly once,
// at any time; it frees everything. After Close only Warnings, Stats and Err may
// be called.
type SeriesSet interface {
	// Next moves to the next series. False means the end or an error.
	Next() bool
	// At returns the current series.
	At() Series
	// Err is the error that ended the set, nil at its proper end.
	Err() error
	// Warnings is complete when Next has returned false.
	Warnings() Warnings
	// Stats is complete when Next has returned false.
	Stats() Stats
	Close() error
}

// OriginSet is a SeriesSet that can name the store behind the Origin of a chunk.
type OriginSet interface {
	SeriesSet
	// OriginName returns the name, or "" for an Origin that is not known.
	OriginName(origin uint16) string
}

// RecyclingSet is a SeriesSet that can use the memory of chunks again while it is being
// read. Sets that wrap others hide it, because they may hold series back.
type RecyclingSet interface {
	SeriesSet
	// Recycle is called before the first Next, by a reader that copies the bytes of
	// chunks: they are then valid until the next call of Next only, and later may be
	// overwritten.
	Recycle()
}

// LendingSet is a SeriesSet whose reader keeps chunks for a while and then gives their
// memory back, so that it can be used again. Sets that wrap others hide it, because they
// may hold series back.
type LendingSet interface {
	SeriesSet
	// Lend is called before the first Next.
	Lend()
	// Spent returns memory to which only chunks of series before the current one refer,
	// each piece once; nil when there is none. When Next has returned false, it is that of
	// all series. The collector frees memory that Spent never returns.
	Spent() Memory
}

// Memory holds the bytes of chunks. It belongs to the caller of LendingSet.Spent, which
// calls one of the methods once, at any time, also after the set was closed.
type Memory interface {
	// Recycle lets others overwrite the bytes: nothing refers to them any more.
	Recycle()
	// Release leaves the bytes to the collector, and says only that they are not counted
	// any more.
	Release()
}

// QueuedSet is a SeriesSet whose first series may have to wait for other requests.
type QueuedSet interface {
	SeriesSet
	// Queued reports whether the set waits for others now, and not for its data. It may
	// be called while another goroutine calls Next.
	Queued() bool
}

// Series is a label set with its chunks in ascending order of MinTime. Chunks
// may overlap.
type Series struct {
	Labels labels.Labels
	Chunks []Chunk
}

// Chunk is either one raw chunk or, of downsampled data, up to five aggregates
// of one span of time.
type Chunk struct {
	// MinTime and MaxTime are the times of the first and last sample,
	// inclusive, in milliseconds.
	MinTime, MaxTime int64
	// Raw is the raw chunk; its Bytes are nil when Aggr is set.
	Raw Data
	// Aggr holds the aggregates of a downsampled chunk; nil for raw data.
	Aggr *Aggregates
}

// Aggregates are the parts of a downsampled chunk. One that was not asked for,
// or does not exist, has nil Bytes.
type Aggregates struct {
	Count, Sum, Min, Max, Counter Data
	// Resolution is the length of the windows in milliseconds, 0 if the store did not
	// tell it. It is no part of the content.
	Resolution int64
}

// Data is the payload of one TSDB chunk, without the encoding byte, length and
// checksum around it.
type Data struct {
	Encoding chunkenc.Encoding
	// Origin is the part of a merged answer that the chunk came from, see
	// OriginSet; 0 when that is not known. It is no part of the content, and
	// set in the raw data only, also where that has no bytes.
	Origin uint16
	Bytes  []byte
	// Hash is the xxhash64 of Bytes, or 0 when it has not been computed.
	Hash uint64
}

// Stats are the costs of answering a request. A store of several parts adds up
// their statistics.
type Stats struct {
	BlocksQueried   int64
	QueriedBlocks   []string
	MergedSeries    int64
	MergedChunks    int64
	PostingsTouched int64
	PostingsFetched int64
	PostingsFetches int64
	PostingsBytes   int64
	SeriesTouched   int64
	SeriesFetched   int64
	SeriesFetches   int64
	SeriesBytes     int64
	ChunksTouched   int64
	ChunksFetched   int64
	ChunksFetches   int64
	ChunksBytes     int64
	BytesFetched    int64
	// These count the blocks that were not queried: those without data of the times, those
	// whose external labels do not match, and those of which other resolutions, or other
	// blocks of the same data, were read.
	BlocksOtherTimes, BlocksOtherLabels, BlocksOtherResolutions int64
	// PagesTouched counts the pages of objects that were used, PagesFetched those of them
	// that were not in the cache.
	PagesTouched, PagesFetched int64
	Duration                   time.Duration
}

// Add adds the counts of o.
func (s *Stats) Add(o Stats) {
	s.BlocksQueried += o.BlocksQueried
	s.QueriedBlocks = append(s.QueriedBlocks, o.QueriedBlocks...)
	s.MergedSeries += o.MergedSeries
	s.MergedChunks += o.MergedChunks
	s.PostingsTouched += o.PostingsTouched
	s.PostingsFetched += o.PostingsFetched
	s.PostingsFetches += o.PostingsFetches
	s.PostingsBytes += o.PostingsBytes
	s.SeriesTouched += o.SeriesTouched
	s.SeriesFetched += o.SeriesFetched
	s.SeriesFetches += o.SeriesFetches
	s.SeriesBytes += o.SeriesBytes
	s.ChunksTouched += o.ChunksTouched
	s.ChunksFetched += o.ChunksFetched
	s.ChunksFetches += o.ChunksFetches
	s.ChunksBytes += o.ChunksBytes
	s.BytesFetched += o.BytesFetched
	s.BlocksOtherLabels += o.BlocksOtherLabels
	s.BlocksOtherTimes += o.BlocksOtherTimes
	s.BlocksOtherResolutions += o.BlocksOtherResolutions
	s.PagesTouched += o.PagesTouched
	s.PagesFetched += o.PagesFetched
	s.Duration = max(s.Duration, o.Duration)
}
