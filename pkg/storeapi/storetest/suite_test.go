package storetest

import (
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/grpcsnappy"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/tsdbstore"
)

func newFake(t *testing.T, data Data) storeapi.Store { return NewFake(t, data) }

func newTSDB(t *testing.T, data Data) storeapi.Store {
	opts := tsdb.DefaultOptions()
	opts.NoLockfile = true
	opts.OutOfOrderTimeWindow = 3_600_000
	if data.XOR2 {
		opts.FloatChunkEncoding = chunkenc.EncXOR2
	}
	db, err := tsdb.Open(t.TempDir(), nil, nil, opts, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	app := db.Appender(t.Context())
	for _, s := range data.Series {
		for _, x := range s.Samples {
			if x.H != nil || x.FH != nil {
				_, err = app.AppendHistogram(0, s.Labels, x.T, x.H, x.FH)
			} else {
				_, err = app.Append(0, s.Labels, x.T, x.V)
			}
			require.NoError(t, err)
		}
	}
	require.NoError(t, app.Commit())
	return tsdbstore.New(db, tsdbstore.Config{Component: "receive", External: func() labels.Labels { return data.External }})
}

// newFanout holds a third of the series in the one store, a third in the other
// and a third in both. One of the two knows neither shards, nor replica labels, nor
// another order than that of the full labels.
func newFanout(t *testing.T, data Data) storeapi.Store {
	a, b := data, data
	a.Series, b.Series = nil, nil
	for i, s := range data.Series {
		if i%3 != 0 {
			a.Series = append(a.Series, s)
		}
		if i%3 != 1 {
			b.Series = append(b.Series, s)
		}
	}
	plain := NewFake(t, b)
	plain.About.SupportsSharding, plain.About.SupportsWithoutReplicaLabels, plain.About.SupportsSortWithout = false, false, false
	stores := []storeapi.Store{NewFake(t, a), plain}
	return fanout.New(func() []storeapi.Store { return stores }, fanout.Config{})
}

func through(newStore NewStore, opts ...storerpc.ClientOption) NewStore {
	return func(t *testing.T, data Data) storeapi.Store { return ThroughGRPC(t, newStore(t, data), opts...) }
}

func TestFake(t *testing.T)            { Run(t, newFake) }
func TestFakeThroughGRPC(t *testing.T) { Run(t, through(newFake)) }
func TestFakeThroughGRPCUnbatched(t *testing.T) {
	Run(t, through(newFake, storerpc.WithBatchSize(1)))
}

func TestFakeThroughGRPCSnappy(t *testing.T) {
	grpcsnappy.Register()
	Run(t, through(newFake, storerpc.WithCompression(grpcsnappy.Name)))
}

// Bounds that no answer reaches change nothing.
func TestBounded(t *testing.T) {
	Run(t, func(t *testing.T, data Data) storeapi.Store {
		return storeapi.Bounds{Series: 1 << 40, Samples: 1 << 40}.Store(NewFake(t, data))
	})
}

func TestTSDB(t *testing.T)              { Run(t, newTSDB) }
func TestTSDBThroughGRPC(t *testing.T)   { Run(t, through(newTSDB)) }
func TestFanout(t *testing.T)            { RunFanout(t, newFanout) }
func TestFanoutThroughGRPC(t *testing.T) { RunFanout(t, through(newFanout)) }

// TestFanoutOfClients is the chain of a querier: two servers, each with its own
// connection, and a fan-out over the clients.
func TestFanoutOfClients(t *testing.T) {
	RunFanout(t, func(t *testing.T, data Data) storeapi.Store {
		stores := []storeapi.Store{ThroughGRPC(t, newTSDB(t, data)), ThroughGRPC(t, newFake(t, data))}
		return fanout.New(func() []storeapi.Store { return stores }, fanout.Config{})
	})
}
