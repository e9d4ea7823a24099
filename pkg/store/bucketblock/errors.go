package bucketblock

import (
	"errors"
	"fmt"
	"strings"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/block/indexheader"
	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/store/pagecache"
)

// errDamaged marks damage that this package detects.
var errDamaged = errorid.Sentinel(errorid.BlockCorrupt, "corrupt block data")

// Parts of a block, as in Error.Part; they are also values of a metric label.
const (
	PartHeader   = "index_header"
	PartIndex    = "index"
	PartPostings = "postings"
	PartSeries   = "series"
	PartChunks   = "chunks"
)

// Error reports that a block could not be read.
type Error struct {
	Block ulid.ULID
	// Part is the part that was being read, one of the constants.
	Part string
	// Corrupt says that the stored bytes are damaged, so that a retry does not
	// help.
	Corrupt bool
	Err     error
}

// Error names the block, the part and the error of reading.
func (e *Error) Error() string {
	return fmt.Sprintf("block %s: read %s: %s", e.Block, strings.ReplaceAll(e.Part, "_", " "), e.Err)
}

// Unwrap returns the error of reading.
func (e *Error) Unwrap() error { return e.Err }

// ErrorID returns the id of the failure, which that of a cause replaces if the block may
// be in order.
func (e *Error) ErrorID() errorid.ID {
	if e.Corrupt {
		return errorid.BlockCorrupt
	}
	return errorid.BlockUnreadable
}

func (b *Block) fail(part string, err error) error {
	if err == nil {
		return nil
	}
	var bounds *pagecache.BoundsError
	corrupt := errors.Is(err, errDamaged) || errors.Is(err, indexheader.ErrCorrupt) ||
		errors.Is(err, aggr.ErrCorrupt) || errors.As(err, &bounds)
	if corrupt && (part == PartPostings || part == PartSeries) {
		b.distrustHeader()
	}
	return &Error{Block: b.meta.ULID, Part: part, Corrupt: corrupt, Err: err}
}
