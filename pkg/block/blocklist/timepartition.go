package blocklist

import "github.com/hindsight-io/hindsight/pkg/block"

// TimePartition keeps blocks that end at mint or later and begin at maxt or
// earlier, in milliseconds. The exclusive end of a block counts as its end, so
// that a block may be in one partition more than its samples need.
func TimePartition(mint, maxt int64) Filter {
	return dropIf("time_partition", func(_ *View, m *block.Meta) bool {
		return m.MaxTime < mint || m.MinTime > maxt
	})
}
