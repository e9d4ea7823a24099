package aggr_test

import (
	"fmt"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// floats encodes pairs of time and value.
func floats(samples ...[2]float64) storeapi.Data {
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	if err != nil {
		panic(err)
	}
	for _, s := range samples {
		app.Append(0, int64(s[0]), s[1])
	}
	return storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: c.Bytes()}
}

// A function decides which aggregates of a downsampled series are read.
func ExampleSeriesIterator() {
	const first, second = 299_999, 599_999 // the ends of two windows of 5m
	series := []storeapi.Chunk{{MinTime: first, MaxTime: second, Aggr: &storeapi.Aggregates{
		Count: floats([2]float64{first, 20}, [2]float64{second, 10}),
		Sum:   floats([2]float64{first, 60}, [2]float64{second, 50}),
		Max:   floats([2]float64{first, 9}, [2]float64{second, 7}),
	}}}
	for _, fn := range []string{"max_over_time", "sum_over_time", "avg_over_time"} {
		it := aggr.SeriesIterator(series, aggr.ForFunc(fn))
		fmt.Print(fn)
		for it.Next() != chunkenc.ValNone {
			t, v := it.At()
			fmt.Printf(" %d:%v", t, v)
		}
		fmt.Println()
	}
	// Output:
	// max_over_time 299999:9 599999:7
	// sum_over_time 299999:60 599999:50
	// avg_over_time 299999:3 599999:5
}
