package block

import (
	"fmt"
	"strings"

	"github.com/oklog/ulid/v2"
)

// Names of a block's objects, relative to the block. Chunk segments are
// ChunksDir + "/000001" and so on.
const (
	MetaFile             = "meta.json"
	IndexFile            = "index"
	ChunksDir            = "chunks"
	DeletionMarkFile     = "deletion-mark.json"
	NoCompactMarkFile    = "no-compact-mark.json"
	NoDownsampleMarkFile = "no-downsample-mark.json"
)

// Path returns the object name of the file rel of block id.
func Path(id ulid.ULID, rel string) string { return id.String() + "/" + rel }

// ParsePath splits an object name into the block and the file within it. ok is
// false for objects that belong to no block. rel is empty for the marker object
// of the block's directory.
func ParsePath(name string) (id ulid.ULID, rel string, ok bool) {
	dir, rel, found := strings.Cut(name, "/")
	if !found {
		return id, "", false
	}
	id, ok = ParseID(dir)
	return id, rel, ok
}

// ParseID parses the name of a block. It accepts only the spelling of
// ulid.ULID.String, because that is the one by which objects are read.
func ParseID(s string) (ulid.ULID, bool) {
	id, err := ulid.ParseStrict(s)
	return id, err == nil && id.String() == s
}

// SegmentName returns the relative name of the chunk segment with the number n,
// counted from 1.
func SegmentName(n int) string { return fmt.Sprintf("%s/%06d", ChunksDir, n) }

// isSegment says whether rel is the name of a chunk segment.
func isSegment(rel string) bool {
	num, ok := strings.CutPrefix(rel, ChunksDir+"/")
	return ok && len(num) == 6 && strings.Trim(num, "0123456789") == ""
}
