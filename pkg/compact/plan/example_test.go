package plan_test

import (
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

// Five blocks of 2 h: the first four fill a window of 8 h.
func ExampleMake() {
	view := plan.View{Metas: map[ulid.ULID]*block.Meta{}}
	for i := range int64(5) {
		m := &block.Meta{}
		m.ULID[15] = byte(i)
		m.MinTime, m.MaxTime = 2*i*time.Hour.Milliseconds(), 2*(i+1)*time.Hour.Milliseconds()
		m.Compaction.Sources = []ulid.ULID{m.ULID}
		m.Thanos.Labels = map[string]string{"cluster": "eu"}
		view.Metas[m.ULID] = m
	}
	p := plan.Make(view, plan.Policy{Ranges: plan.Ranges()}, time.UnixMilli(0).Add(12*time.Hour))
	for _, j := range p.Jobs {
		fmt.Println(j.Kind, len(j.Blocks), "blocks:", j.Reason)
	}
	// Output: merge 4 blocks: 4 blocks in a finished window of 8h
}
