package blocklist_test

import (
	"context"
	"fmt"
	"time"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// A poller lists the blocks of a bucket, and filters select those to serve. Another
// poller starts from the block index with one GET.
func Example() {
	ctx := context.Background()
	b := bucket.NewMemory()
	for i, name := range []string{"a", "b", "c"} {
		m := &block.Meta{}
		m.ULID = blocktest.ID(name)
		m.MinTime, m.MaxTime = int64(i)*1000, int64(i+1)*1000
		m.Thanos.Labels = map[string]string{"cluster": "eu"}
		if err := blocktest.UploadMeta(ctx, b, m); err != nil {
			fmt.Println(err)
			return
		}
	}
	p := blocklist.NewPoller(b, blocklist.Config{})
	view, err := p.Poll(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	served, excluded := view.Apply(blocklist.TimePartition(0, 1500), blocklist.Duplicates())
	fmt.Println(len(view.Metas), len(served.Metas), excluded[blocktest.ID("c")])

	if err := p.WriteIndex(ctx, b); err != nil {
		fmt.Println(err)
		return
	}
	other := blocklist.NewPoller(b, blocklist.Config{Filters: []blocklist.Filter{blocklist.TimePartition(0, 1500)}})
	view, err = other.ReadIndex(ctx, 24*time.Hour)
	fmt.Println(len(view.Metas), err)
	// Output:
	// 3 2 time_partition
	// 2 <nil>
}
