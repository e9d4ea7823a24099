// Package blocklist polls a bucket into a View of its blocks with one listing
// and one GET for each new or changed meta.json or mark.
package blocklist

import (
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// View is an immutable snapshot of a bucket. Nobody may change the maps or
// what they point to.
type View struct {
	// Metas are the complete blocks.
	Metas map[ulid.ULID]*block.Meta
	// Sizes gives, for each complete block, the listed size of each object by
	// its path within the block ("index", "chunks/000001"); -1 when the
	// provider's listing has no sizes.
	Sizes map[ulid.ULID]map[string]int64
	// Partial are directories with a block's name but no readable meta.json,
	// with the reason and the time of their newest object.
	Partial map[ulid.ULID]Partial
	// The marks, by block.
	Deletion     map[ulid.ULID]*block.DeletionMark
	NoCompact    map[ulid.ULID]*block.NoCompactMark
	NoDownsample map[ulid.ULID]*block.NoDownsampleMark
	// Taken is when the listing began.
	Taken time.Time
}

// Partial describes a block without a usable meta.json.
type Partial struct {
	Reason       string
	LastModified time.Time
}
