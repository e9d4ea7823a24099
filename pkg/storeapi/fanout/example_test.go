package fanout_test

import (
	"context"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
)

// zone is a store with one series.
type zone struct{ name string }

func (z zone) Info() storeapi.Info {
	return storeapi.Info{
		Component: "example", LabelSets: []labels.Labels{labels.FromStrings("zone", z.name)},
		MinTime: math.MinInt64, MaxTime: math.MaxInt64, SupportsSharding: true, SupportsWithoutReplicaLabels: true,
	}
}

func (z zone) Select(context.Context, *storeapi.Request) storeapi.SeriesSet {
	return storeapi.NewSliceSet([]storeapi.Series{{Labels: labels.FromStrings("__name__", "up", "zone", z.name)}})
}

func (z zone) LabelNames(context.Context, *storeapi.Request) ([]string, storeapi.Warnings, error) {
	return []string{"__name__", "zone"}, nil, nil
}

func (z zone) LabelValues(context.Context, string, *storeapi.Request) ([]string, storeapi.Warnings, error) {
	return nil, nil, nil
}

func Example() {
	stores := []storeapi.Store{zone{"eu"}, zone{"us"}}
	all := fanout.New(func() []storeapi.Store { return stores }, fanout.Config{})
	set := all.Select(context.Background(), &storeapi.Request{
		MinTime: 0, MaxTime: 1000,
		Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "up")},
	})
	for set.Next() {
		fmt.Println(set.At().Labels)
	}
	fmt.Println(set.Err(), set.Close())
	// Output:
	// {__name__="up", zone="eu"}
	// {__name__="up", zone="us"}
	// <nil> <nil>
}
