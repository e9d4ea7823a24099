package blocklist

import (
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// ConsistencyDelay drops blocks that were uploaded less than delay ago, for
// buckets whose listings show new objects late. Blocks of the compactor pass at
// once, because they replace others that may go soon.
func ConsistencyDelay(delay time.Duration) Filter {
	return dropIf("consistency_delay", func(v *View, m *block.Meta) bool {
		switch m.Thanos.Source {
		case block.SourceCompactor, block.SourceCompactorRepair, block.SourceBucketRepair:
			return false
		}
		made := m.Thanos.UploadTime
		if made.IsZero() {
			made = ulid.Time(m.ULID.Time())
		}
		return v.Taken.Sub(made) < delay
	})
}
