package blocklist

import (
	"time"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// DeletionMarkDelay drops blocks that were marked for deletion more than delay
// ago. Until then they are used, so that every process has time to list the block that
// replaces them.
func DeletionMarkDelay(delay time.Duration) Filter {
	return dropIf("deletion_mark", func(v *View, m *block.Meta) bool {
		mark := v.Deletion[m.ULID]
		return mark != nil && v.Taken.Sub(mark.Since(v.Marked[m.ULID])) > delay
	})
}
