package remotewrite

import (
	"fmt"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
)

func malformed(what string) error { return fmt.Errorf("%w: %s", protoscan.ErrMalformed, what) }

// Cut returns the size of the longest run of whole fields at the beginning of b
// that is at most limit bytes, or of the first field when that is larger. A
// malformed message is not cut.
func Cut(b []byte, limit int) int {
	fs, f, end := protoscan.Fields{B: b}, protoscan.Field{}, 0
	for fs.Next(&f) {
		if fs.Offset() > limit && end > 0 {
			return end
		}
		if end = fs.Offset(); end >= limit {
			return end
		}
	}
	return len(b)
}
