package plan_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

// BenchmarkBacklog plans for 60,000 blocks of 2 h in 60 groups.
func BenchmarkBacklog(b *testing.B) {
	v := plan.View{Metas: map[ulid.ULID]*block.Meta{}}
	for g := range 60 {
		for i := range int64(1000) {
			m := &block.Meta{}
			m.ULID[14], m.ULID[15], m.ULID[13] = byte(i>>8), byte(i), byte(g)
			m.MinTime, m.MaxTime = i*2*time.Hour.Milliseconds(), (i+1)*2*time.Hour.Milliseconds()
			m.Compaction.Sources = []ulid.ULID{m.ULID}
			m.Thanos.Labels = map[string]string{"cluster": fmt.Sprint(g), "replica": "a"}
			v.Metas[m.ULID] = m
		}
	}
	p := plan.Policy{Ranges: plan.Ranges(), Downsampling: true, ReplicaLabels: []string{"replica"}}
	for b.Loop() {
		plan.Make(v, p, time.UnixMilli(0).Add(1000*time.Hour*24))
	}
	b.ReportMetric(float64(len(v.Metas)), "blocks")
}
