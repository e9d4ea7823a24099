package blockcolumns

import (
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
)

// Object is the columns object of a block, as its name in the block tells it.
type Object struct {
	// Rel is the name within the block.
	Rel string
	// Directory is the number of bytes of the directory, with which the object ends, and Size
	// that of the whole object.
	Directory, Size int64
}

const (
	prefix  = "columns-v1-"
	magic   = "HSBC\x01\x00\x00\x00"
	crcSize = 4
	// align is what the position of the directory is a multiple of in an object that is longer:
	// readers read whole pages.
	align = 4096
)

// Bounds of what a reader accepts, and a writer writes. They bound the memory of a reader: an
// index names a value once, and series refer to it, so without maxLabelBytes the labels of its
// series could take thousands of times its bytes. A writer leaves out metrics that are beyond
// one of them.
const (
	maxSize       = 1 << 40
	maxDirectory  = 8 << 20                   // as stored
	maxPlain      = 32 << 20                  // of an unpacked directory
	maxIndex      = 4 << 20                   // of a segment of the index, unpacked
	maxLabels     = 256                       // names of the labels of a metric
	maxLabelBytes = 8 << 10                   // names and values of a series; likewise names and constant values of a metric
	maxKey        = maxLabelBytes + maxLabels // with a byte behind each value
	// maxSeriesIndex bounds the index of a segment by its series, as stored: a reader that bounds
	// the series that it looks at has bounded the bytes that it reads for them.
	maxSeriesIndex = 2 * maxKey
	maxSegments    = 1 << 16  // of a metric
	maxChunks      = 1 << 16  // of a series
	maxPiece       = 64 << 20 // bytes of the chunks of a series
)

// MaxRange is the longest time range of a block that gets a columns object, in milliseconds. A
// reader reads all chunks of a series: those of a longer block are too many.
const MaxRange = 24 * 60 * 60 * 1000

// errCorrupt marks objects that contradict their format.
var errCorrupt = errors.New("corrupt columns object")

// IsCorrupt says whether an error says that an object contradicts its format.
func IsCorrupt(err error) bool { return errors.Is(err, errCorrupt) }

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errCorrupt, fmt.Errorf(format, args...))
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// newObject returns the object with the sizes.
func newObject(directory, size int64) Object {
	return Object{Rel: fmt.Sprintf("%s%d-%d", prefix, directory, size), Directory: directory, Size: size}
}

// ParseName reads the name of a file of a block. ok is false when it is no columns object that
// this version reads.
func ParseName(rel string) (o Object, ok bool) {
	sizes, found := strings.CutPrefix(rel, prefix)
	if !found {
		return Object{}, false
	}
	directory, size, _ := strings.Cut(sizes, "-")
	o.Directory, _ = strconv.ParseInt(directory, 10, 64)
	o.Size, _ = strconv.ParseInt(size, 10, 64)
	o.Rel = rel
	if newObject(o.Directory, o.Size).Rel != rel || o.Directory <= crcSize || o.Directory > maxDirectory ||
		o.Size > maxSize || o.Size-o.Directory < int64(len(magic)) {
		return Object{}, false
	}
	return o, true
}

// Span is the bytes [Off, End) of an object.
type Span struct{ Off, End int64 }

// Len is the number of bytes.
func (s Span) Len() int64 { return s.End - s.Off }
