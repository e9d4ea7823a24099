package plan

import (
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// Kind says what a job does.
type Kind string

// The kinds of jobs, in the order in which a plan lists them.
const (
	// Delete removes a block whose deletion mark is old enough.
	Delete Kind = "delete"
	// CleanPartial removes what is left of an upload or deletion that nobody
	// continues.
	CleanPartial Kind = "clean-partial"
	// MarkDeletion marks a block for deletion: superseded or out of retention.
	MarkDeletion Kind = "mark-deletion"
	// MarkNoCompact excludes a block from merging.
	MarkNoCompact Kind = "mark-no-compact"
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
	// Vertical says that inputs of a merge overlap in time.
	Vertical bool
	// Overdue is how long the block has been out of retention; 0 when the job has
	// nothing to do with it.
	Overdue time.Duration
	// Reason says why, in a short sentence for people.
	Reason string
	// Details is the text for a mark, MarkReason the reason of a no-compact
	// mark; both in the words that other readers of the bucket know.
	Details    string
	MarkReason string
}

// Skip is a block that something could be done with, and why it is not.
type Skip struct {
	Block  ulid.ULID
	Reason string
	// Code is set when the meta.json of the block makes no sense, so that a
	// person has to look: one of the Code constants.
	Code string
}

// Plan is what to do, and what not.
type Plan struct {
	Jobs []Job
	// Skipped is in ascending order of block.
	Skipped []Skip
}

// Count is the number of jobs of a kind.
func (p *Plan) Count(k Kind) int {
	n := 0
	for i := range p.Jobs {
		if p.Jobs[i].Kind == k {
			n++
		}
	}
	return n
}

// Partial is a directory that has a block's name but no usable meta.json.
type Partial struct {
	// Reason says what is wrong with meta.json.
	Reason reason.Reason
	// LastModified is the time of the newest object; zero when the bucket does
	// not tell.
	LastModified time.Time
}

// View is what is in the bucket. The maps are only read.
type View struct {
	// Metas are the complete blocks of the whole bucket, also those that other
	// compactors work on.
	Metas map[ulid.ULID]*block.Meta
	// IndexSize is the size of each block's index in bytes, where known.
	IndexSize map[ulid.ULID]int64
	// Partial are the blocks without a usable meta.json.
	Partial      map[ulid.ULID]Partial
	Deletion     map[ulid.ULID]*block.DeletionMark
	NoCompact    map[ulid.ULID]*block.NoCompactMark
	NoDownsample map[ulid.ULID]*block.NoDownsampleMark
	// Quarantined are blocks that failed, with the reason. They are neither
	// merged nor downsampled, and are not deleted for want of a coarser copy.
	Quarantined map[ulid.ULID]string
	// Busy are blocks that must not be touched now, for instance because a job
	// on them has just failed. Merges wait that would have them in their window.
	Busy map[ulid.ULID]string
}
