package blocklist

import (
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// BlockIDLabel is the label under which relabelling sees a block's ULID.
const BlockIDLabel = "__block_id"

// Shard keeps blocks whose external labels, with BlockIDLabel added and the ignored
// labels removed, are kept by relabelling.
func Shard(cfgs []*relabel.Config, ignored ...string) Filter {
	return dropIf("label_shard", func(_ *View, m *block.Meta) bool {
		if len(cfgs) == 0 {
			return false
		}
		b := labels.NewBuilder(m.ExternalLabels())
		b.Del(ignored...)
		b.Set(BlockIDLabel, m.ULID.String())
		return !relabel.ProcessBuilder(b, cfgs...) || b.Labels().IsEmpty()
	})
}
