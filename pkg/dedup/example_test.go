package dedup_test

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/dedup"
)

// replica makes a source of floats, one every 15 s from the given second on.
func replica(from int64, values ...float64) dedup.Replica {
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	if err != nil {
		panic(err)
	}
	for i, v := range values {
		app.Append(0, 1000*(from+15*int64(i)), v)
	}
	return dedup.Replica{Samples: c.Iterator(nil), Interval: 15000}
}

func print(it chunkenc.Iterator) {
	for it.Next() != chunkenc.ValNone {
		t, v := it.At()
		fmt.Printf("%d:%v ", t/1000, v)
	}
	fmt.Println(it.Err())
}

// The first replica ends, and the second one takes over.
func ExampleFunc_Merge() {
	a := replica(0, 1, 2, 3)
	b := replica(7, 101, 102, 103, 104, 105)
	print(dedup.FuncCoverage.Merge([]dedup.Replica{a, b}, dedup.Options{Bounds: dedup.Bounds{MinTime: math.MinInt64, MaxTime: math.MaxInt64}}))
	// Output: 0:1 15:2 30:3 52:104 67:105 <nil>
}

// Two parts of one stream: every sample counts.
func ExampleUnion() {
	early := replica(0, 1, 2, 3)
	late := replica(30, 3, 4, 5)
	print(dedup.Union([]dedup.Replica{early, late}, dedup.Bounds{MinTime: math.MinInt64, MaxTime: math.MaxInt64}))
	// Output: 0:1 15:2 30:3 45:4 60:5 <nil>
}
