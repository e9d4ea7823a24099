package replicate

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/receive/hashring"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// discard is a peer, and a local store, that takes everything.
type discard struct{}

func (discard) Send(context.Context, []*Delivery) ([][]error, error) { return nil, nil }
func (discard) Form() Form                                           { return Form{Merged: true} }
func (discard) Close() error                                         { return nil }
func (discard) Write(context.Context, string, *remotewrite.Batch, []uint32) error {
	return nil
}

// BenchmarkRoute is the routed path without storage and network: 2,000 series
// to three of five nodes, answered at quorum.
func BenchmarkRoute(b *testing.B) {
	spec := hashring.Spec{Algorithm: hashring.Ketama}
	for _, a := range []string{"a:1", "b:1", "c:1", "d:1", "e:1"} {
		spec.Endpoints = append(spec.Endpoints, hashring.Endpoint{Address: a})
	}
	rings, err := hashring.New([]hashring.Spec{spec}, hashring.Options{Replicas: 3})
	require.NoError(b, err)
	w := NewWriter(Config{
		Replicas: 3, Timeout: time.Second, MaxBackoff: time.Second, QueueBytes: 1 << 30, MessageBytes: 4 << 20, Lanes: 5,
		Local: discard{}, Dial: func(string) (Node, error) { return discard{}, nil },
	}, slog.New(slog.DiscardHandler), nil)
	require.NoError(b, w.SetRings(b.Context(), rings, "a:1"))
	defer w.Close()
	const series = 2000
	data := batch(b, series, "http_requests_total_of_some_service")
	defer data.Close()
	reqs := []Request{{"tenant", data}}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		require.NoError(b, w.Write(b.Context(), reqs, 0))
		n++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n)/series, "ns/series")
}
