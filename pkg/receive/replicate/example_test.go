package replicate_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/prometheus/prompb"

	"github.com/hindsight-io/hindsight/pkg/receive/hashring"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/receive/replicate"
)

// storage stores the series of this node.
type storage struct{}

func (storage) Write(_ context.Context, tenant string, b *remotewrite.Batch, _ []uint32) error {
	fmt.Println("store", b.Len(), "series of", tenant)
	return nil
}

// A ring of one member, which is this node.
func ExampleWriter() {
	specs, err := hashring.Parse([]byte(`[{"endpoints": ["a:10901"]}]`))
	if err != nil {
		panic(err)
	}
	rings, err := hashring.New(specs, hashring.Options{Algorithm: hashring.Ketama, Replicas: 1})
	if err != nil {
		panic(err)
	}
	w := replicate.NewWriter(replicate.Config{Replicas: 1, Local: storage{}, Timeout: time.Second}, slog.New(slog.DiscardHandler), nil)
	if err := w.SetRings(context.Background(), rings, "a:10901"); err != nil {
		panic(err)
	}
	raw, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{Labels: []prompb.Label{{Name: "__name__", Value: "up"}}}}}).Marshal()
	if err != nil {
		panic(err)
	}
	buf := remotewrite.NewBuffer(len(raw))
	buf.B = append(buf.B, raw...)
	batch, err := remotewrite.ScanV1(buf, buf.B)
	if err != nil {
		panic(err)
	}
	defer batch.Close()
	err = w.Write(context.Background(), []replicate.Request{{Tenant: "team-a", Batch: batch}}, 0)
	fmt.Println(err, w.Close())
	// Output:
	// store 1 series of team-a
	// <nil> <nil>
}
