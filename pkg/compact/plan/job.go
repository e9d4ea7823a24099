package plan

import (
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// Kind is the kind of a job.
type Kind string

// The kinds of jobs, in the order in which a plan lists them.
const (
	// Delete removes a block whose deletion mark is old enough.
	Delete Kind = "delete"
	// CleanPartial removes the objects of an abandoned upload or deletion.
	CleanPartial Kind = "clean-partial"
	// MarkDeletion marks a block for deletion: superseded or out of retention.
	MarkDeletion Kind = "mark-deletion"
	// Rewrite makes a block without some series or samples of one block, which it marks
	// for deletion.
	Rewrite Kind = "rewrite"
	// Merge makes one block of several and marks them for deletion.
	Merge Kind = "merge"
	// Downsample makes one coarser block of one block.
	Downsample Kind = "downsample"
)

// Job is one step.
type Job struct {
	Kind Kind
	// Group is the group of the blocks; zero for CleanPartial.
	Group Group
	// Blocks are the inputs, in ascending order of MinTime. All kinds but Merge
	// have exactly one.
	Blocks []ulid.ULID
	// MinTime and MaxTime bound the inputs, half-open as in meta.json.
	MinTime, MaxTime int64
	// Resolution of the result, in milliseconds.
	Resolution int64
	// Downsample is the coarser resolution that a merge also makes of its result, because
	// the next plan would do so; 0 for none.
	Downsample int64
	// Vertical says that inputs of a merge overlap in time.
	Vertical bool
	// Overdue is how long the block has been out of retention; 0 when retention is
	// not the reason of the job.
	Overdue time.Duration
	// Reason is a short sentence for the log and the dry run.
	Reason string
	// Details is the text for a mark, as other readers of the bucket expect it.
	Details string
}

// Skip is a block that no job takes although it is not complete.
type Skip struct {
	Block ulid.ULID
	// Details says why, in a short sentence.
	Details string
	// Reason is set when the meta.json of the block is invalid, so that an
	// operator has to look at it.
	Reason reason.Reason
}

// Plan is a list of jobs, and of blocks that are skipped.
type Plan struct {
	Jobs []Job
	// Skipped is in ascending order of block.
	Skipped []Skip
}

// Partial is a directory that has the name of a block but no usable meta.json.
type Partial struct {
	// Reason is the error of meta.json.
	Reason reason.Reason
	// LastModified is the time of the newest object; zero when the bucket does
	// not report it.
	LastModified time.Time
}

// View is the content of the bucket. Make does not write to the maps.
type View struct {
	// Metas are the complete blocks of the whole bucket, also those that other
	// compactors work on.
	Metas map[ulid.ULID]*block.Meta
	// Published are the times at which blocks became visible, by the clock of the bucket.
	// Those of other blocks are taken from their meta.json, where the producer wrote them.
	Published map[ulid.ULID]time.Time
	// Marked are the times at which deletion marks were written, by the clock of the bucket.
	// The delay of another mark counts from the time in it.
	Marked map[ulid.ULID]time.Time
	// Partial are the blocks without a usable meta.json.
	Partial      map[ulid.ULID]Partial
	Deletion     map[ulid.ULID]*block.DeletionMark
	NoCompact    map[ulid.ULID]*block.NoCompactMark
	NoDownsample map[ulid.ULID]*block.NoDownsampleMark
	// Quarantined are blocks that failed, with the reason. They are neither
	// merged nor downsampled, and not deleted while they lack coarser data.
	Quarantined map[ulid.ULID]string
	// Incomplete are blocks of which the bucket lacks a file that meta.json names, with
	// what it lacks. They supersede no other block and stand for no data.
	Incomplete map[ulid.ULID]string
	// SkippedInPass are blocks that no job may take now, with the reason, for
	// instance because a job on them has failed. Merges of their windows wait.
	SkippedInPass map[ulid.ULID]string
	// Rewrites are blocks that hold series or samples which have to be removed, with
	// the reason.
	Rewrites map[ulid.ULID]string
}
