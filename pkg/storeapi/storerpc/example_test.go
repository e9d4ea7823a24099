package storerpc_test

import (
	"context"
	"fmt"
	"net"

	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// oneSeries is a store with one series.
type oneSeries struct{}

func (oneSeries) Info() storeapi.Info { return storeapi.Info{Component: "example", MaxTime: 1000} }

func (oneSeries) Select(context.Context, *storeapi.Request) storeapi.SeriesSet {
	return storeapi.NewSliceSet([]storeapi.Series{{Labels: labels.FromStrings("__name__", "up", "job", "node")}})
}

func (oneSeries) LabelNames(context.Context, *storeapi.Request) ([]string, storeapi.Warnings, error) {
	return []string{"__name__", "job"}, nil, nil
}

func (oneSeries) LabelValues(context.Context, string, *storeapi.Request) ([]string, storeapi.Warnings, error) {
	return []string{"node"}, nil, nil
}

// A store is served over gRPC, and its client is a store again.
func Example() {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	srv := grpc.NewServer(storerpc.ServerOptions()...)
	storerpc.RegisterStore(srv, oneSeries{}, storerpc.ServerConfig{})
	storerpc.RegisterInfo(srv, storerpc.InfoConfig{Info: oneSeries{}.Info, Services: storerpc.Services{Store: true}})
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()

	conn, err := grpc.NewClient(lis.Addr().String(), append(storerpc.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		fmt.Println(err)
		return
	}
	client := storerpc.NewClient(conn, "store.example:10901")
	fmt.Println(client.Refresh(context.Background()), client.Info().Component)
	set := client.Select(context.Background(), &storeapi.Request{
		MaxTime: 1000, SkipChunks: true,
		Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "up")},
	})
	for set.Next() {
		fmt.Println(set.At().Labels)
	}
	fmt.Println(set.Err(), set.Close(), conn.Close())
	srv.Stop()
	fmt.Println(<-done)
	// Output:
	// <nil> example
	// {__name__="up", job="node"}
	// <nil> <nil> <nil>
	// <nil>
}
