package query

import (
	"context"
	"log/slog"
	"net"
	"testing"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/hindsight-io/hindsight/pkg/query/eval"
	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
	"github.com/hindsight-io/hindsight/pkg/storeapi/tsdbstore"
)

// path is a storage for PromQL's own test suite: written samples go to one or
// more TSDBs, reads come through StoreAPI servers, gRPC, the fan-out
// and the merge of replicas.
type path struct {
	storage.Storage
	replicas  []*teststorage.TestStorage
	clients   []*storerpc.Client
	queryable *Queryable
	// written says that there may be samples which the stores have not announced.
	written bool
}

func (p *path) Querier(mint, maxt int64) (storage.Querier, error) {
	if err := p.refresh(); err != nil {
		return nil, err
	}
	return p.queryable.Querier(mint, maxt)
}

// streams makes the path a storage that can stream.
func (p *path) streams() eval.Storage {
	if err := p.refresh(); err != nil {
		panic("BUG: " + err.Error())
	}
	return p.queryable.streams()
}

// refresh reads the time ranges that the stores announce, which grow with their samples.
func (p *path) refresh() error {
	if !p.written {
		return nil
	}
	p.written = false
	for _, c := range p.clients {
		if err := c.Refresh(context.Background()); err != nil {
			return err
		}
	}
	return nil
}

func (p *path) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	return p.queryable.ChunkQuerier(mint, maxt)
}

func (p *path) AppenderV2(ctx context.Context) storage.AppenderV2 {
	p.written = true
	var all appenders
	for _, r := range p.replicas {
		all = append(all, r.AppenderV2(ctx))
	}
	return all
}

// appenders writes to several TSDBs. Series references differ between them, so
// none is used.
type appenders []storage.AppenderV2

func (a appenders) Append(_ storage.SeriesRef, l labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, o storage.AppendV2Options) (storage.SeriesRef, error) {
	for _, app := range a {
		hc, fhc := h, fh
		if h != nil {
			hc = h.Copy()
		}
		if fh != nil {
			fhc = fh.Copy()
		}
		if _, err := app.Append(0, l, st, t, v, hc, fhc, o); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

func (a appenders) AppendExemplar(_ storage.SeriesRef, l labels.Labels, e exemplar.Exemplar) (storage.SeriesRef, error) {
	return 0, nil
}

func (a appenders) Commit() error {
	for _, app := range a {
		if err := app.Commit(); err != nil {
			return err
		}
	}
	return nil
}

func (a appenders) Rollback() error {
	for _, app := range a {
		if err := app.Rollback(); err != nil {
			return err
		}
	}
	return nil
}

// testDB is a TSDB whose chunks are cut after a number of samples.
func testDB(t testing.TB, samplesPerChunk int) *teststorage.TestStorage {
	return teststorage.New(t, func(opt *tsdb.Options) {
		opt.EnableSTStorage = true
		opt.FloatChunkEncoding = chunkenc.EncXOR2
		opt.EnableHistogramSTEncoding = true
		opt.SamplesPerChunk = samplesPerChunk
	})
}

// serve puts a store behind gRPC.
func serve(t testing.TB, s storeapi.Store, name string) *storerpc.Client {
	lis := bufconn.Listen(1 << 20)
	srv := grpc.NewServer(storerpc.ServerOptions()...)
	storerpc.RegisterStore(srv, s, storerpc.ServerConfig{})
	storerpc.RegisterInfo(srv, storerpc.InfoConfig{Info: s.Info, Services: storerpc.Services{Store: true}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(lis)
	}()
	conn, err := grpc.NewClient("passthrough:///"+name, append(storerpc.DialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }),
	)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		srv.Stop()
		<-done
	})
	c := storerpc.NewClient(conn, name)
	require.NoError(t, c.Refresh(t.Context()))
	return c
}

// newPath makes n replicas that differ in a label that is removed when the
// answers are merged. With one replica nothing is merged. Half of the chunks are columns.
func newPath(t testing.TB, n int) *path {
	p := &path{}
	var stores []storeapi.Store
	for i := range n {
		db := testDB(t, 120-50*i)
		p.replicas = append(p.replicas, db)
		ext := labels.EmptyLabels()
		if n > 1 {
			ext = labels.FromStrings("test_replica", string(rune('a'+i)))
		}
		s := tsdbstore.New(db.DB, tsdbstore.Config{Component: "sidecar", External: func() labels.Labels { return ext }})
		c := serve(t, s, string(rune('a'+i)))
		stores, p.clients = append(stores, storetest.Columns(c)), append(p.clients, c)
	}
	p.Storage = p.replicas[0]
	params := queryopts.Options{PartialResponse: false}
	if n > 1 {
		params.Dedup, params.ReplicaLabels = true, []string{"test_replica"}
	}
	all := fanout.New(func() []storeapi.Store { return stores }, fanout.Config{Logger: slog.New(slog.DiscardHandler)})
	p.queryable = NewQueryable(all, QueryableConfig{Defaults: params, MaxConcurrentSelects: 4})
	return p
}

// Close leaves the TSDBs to the cleanup of the test, as the servers still hold
// them.
func (p *path) Close() error { return nil }
