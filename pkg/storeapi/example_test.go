package storeapi_test

import (
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/limit"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// series is a set over label sets, each with one chunk that begins at mint.
func series(mint int64, lsets ...labels.Labels) storeapi.SeriesSet {
	var out []storeapi.Series
	for _, ls := range lsets {
		out = append(out, storeapi.Series{Labels: ls, Chunks: []storeapi.Chunk{{MinTime: mint, MaxTime: mint + 10}}})
	}
	return storeapi.NewSliceSet(out)
}

func print(set storeapi.SeriesSet) {
	for set.Next() {
		s := set.At()
		fmt.Println(s.Labels, len(s.Chunks))
	}
	if err := set.Err(); err != nil {
		fmt.Println("error:", err)
	}
	if err := set.Close(); err != nil {
		fmt.Println("error:", err)
	}
}

func ExampleMerge() {
	a, b := labels.FromStrings("job", "a"), labels.FromStrings("job", "b")
	print(storeapi.Merge([]storeapi.SeriesSet{series(0, a, b), series(100, b)}, storeapi.Order{}))
	// Output:
	// {job="a"} 1
	// {job="b"} 2
}

func ExampleReorder() {
	// The external label zone sorts behind pod, so {job="a"} is read first and
	// returned last.
	in := series(0, labels.FromStrings("job", "a"), labels.FromStrings("job", "a", "pod", "1"))
	print(storeapi.Reorder{External: labels.FromStrings("zone", "eu")}.Apply(in))
	// Output:
	// {job="a", pod="1", zone="eu"} 1
	// {job="a", zone="eu"} 1
}

func ExampleCut() {
	a, b, c := labels.FromStrings("job", "a"), labels.FromStrings("job", "b"), labels.FromStrings("job", "c")
	print(storeapi.Cut{Limit: 2}.Apply(series(0, a, b, c)))

	set := storeapi.Cut{Bounds: storeapi.Bounds{Series: 1}}.Apply(series(0, a, b))
	for set.Next() {
		fmt.Println(set.At().Labels)
	}
	fmt.Println(errors.Is(set.Err(), limit.ErrExceeded))
	// Output:
	// {job="a"} 1
	// {job="b"} 1
	// {job="a"}
	// true
}
