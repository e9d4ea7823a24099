// Package blocklist polls a bucket into a View of its blocks with one listing
// and one GET for each new or changed meta.json or mark.
package blocklist

import (
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// View is an immutable snapshot of a bucket: the maps and their values must not be
// changed.
type View struct {
	// Metas are the complete blocks.
	Metas map[ulid.ULID]*block.Meta
	// Sizes gives, for each complete block, the size of each object by its path
	// within the block ("index", "chunks/000001"): as listed; or, when the provider's
	// listing has no sizes, as recorded in meta.json or in the name of a columns object;
	// or -1.
	Sizes map[ulid.ULID]map[string]int64
	// Published gives, for each complete block, the time of its meta.json by the clock of
	// the bucket; blocks of a provider whose listing has no times are not in it.
	Published map[ulid.ULID]time.Time
	// Partial are directories with the name of a block but without meta.json: an upload
	// or a deletion that has not ended. It also has blocks that are marked for deletion
	// and whose meta.json cannot be used.
	Partial map[ulid.ULID]Partial
	// Unusable are blocks that have a meta.json which cannot be used: malformed,
	// of an unknown version, of another block, or refused by the provider. They may hold
	// data, so that only an operator may delete them.
	Unusable map[ulid.ULID]Partial
	// Marked gives, for each block with a deletion mark, the time at which the mark was
	// written, by the clock of the bucket; marks of a provider whose listing has no times
	// are not in it.
	Marked map[ulid.ULID]time.Time
	// The marks, by block.
	Deletion     map[ulid.ULID]*block.DeletionMark
	NoCompact    map[ulid.ULID]*block.NoCompactMark
	NoDownsample map[ulid.ULID]*block.NoDownsampleMark
	// BadMarks counts marks that could not be read.
	BadMarks int
	// Taken is when the listing began.
	Taken time.Time
}

// Bytes is the size of the listed objects of a complete block; those of unknown size count
// as empty.
func (v *View) Bytes(id ulid.ULID) int64 {
	var sum int64
	for _, size := range v.Sizes[id] {
		sum += max(size, 0)
	}
	return sum
}

// newView divides the entries into complete, partial and unusable blocks, and collects
// their marks.
func newView(entries map[ulid.ULID]*entry, taken time.Time) *View {
	v := &View{
		Metas:        make(map[ulid.ULID]*block.Meta, len(entries)),
		Sizes:        make(map[ulid.ULID]map[string]int64, len(entries)),
		Published:    make(map[ulid.ULID]time.Time, len(entries)),
		Partial:      map[ulid.ULID]Partial{},
		Unusable:     map[ulid.ULID]Partial{},
		Marked:       map[ulid.ULID]time.Time{},
		Deletion:     map[ulid.ULID]*block.DeletionMark{},
		NoCompact:    map[ulid.ULID]*block.NoCompactMark{},
		NoDownsample: map[ulid.ULID]*block.NoDownsampleMark{},
		Taken:        taken,
	}
	for id, e := range entries {
		switch {
		case e.meta != nil:
			v.Metas[id], v.Sizes[id] = e.meta, e.sizes
			if at, ok := e.written(block.MetaFile); ok {
				v.Published[id] = at
			}
		case e.partial.Reason == reason.BlockMetaMissing || e.deletion != nil:
			v.Partial[id] = Partial{Reason: e.partial.Reason, LastModified: e.newest(id)}
		default:
			v.Unusable[id] = Partial{Reason: e.partial.Reason, LastModified: e.newest(id)}
		}
		if e.deletion != nil {
			v.Deletion[id] = e.deletion
			if at, ok := e.written(block.DeletionMarkFile); ok {
				v.Marked[id] = at
			}
		}
		if e.noCompact != nil {
			v.NoCompact[id] = e.noCompact
		}
		if e.noDownsample != nil {
			v.NoDownsample[id] = e.noDownsample
		}
		v.BadMarks += e.badMarks
	}
	return v
}

// Partial describes a block without a meta.json that can be used.
type Partial struct {
	Reason reason.Reason
	// LastModified is the time of the newest object, or that of the block's
	// ULID when the provider's listing has no times.
	LastModified time.Time
}
