// Package integration tests components together, in one process.
package integration

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/query"
	"github.com/hindsight-io/hindsight/pkg/query/queryopts"
	"github.com/hindsight-io/hindsight/pkg/store"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/fanout"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const replicaLabel = "test_replica"

// shipped is a storage for PromQL's own test suite. Writes go to one TSDB per replica.
// Before a read, the samples are cut into blocks and uploaded to a bucket; reads go
// through gateway, gRPC, fan-out and merge of replicas.
type shipped struct {
	storage.Storage
	t        testing.TB
	replicas []*teststorage.TestStorage
	dirty    bool
	queries  *query.Queryable
	stop     func()
}

func newShipped(t testing.TB, replicas int) *shipped {
	s := &shipped{t: t, dirty: true, stop: func() {}}
	for i := range replicas {
		s.replicas = append(s.replicas, teststorage.New(t, func(opt *tsdb.Options) {
			opt.EnableSTStorage = true
			opt.FloatChunkEncoding = chunkenc.EncXOR2
			opt.EnableHistogramSTEncoding = true
			// Other chunks in each replica.
			opt.SamplesPerChunk = 120 - 50*i
		}))
	}
	s.Storage = s.replicas[0]
	return s
}

func (s *shipped) AppenderV2(ctx context.Context) storage.AppenderV2 {
	s.dirty = true
	var all appenders
	for _, r := range s.replicas {
		all = append(all, r.AppenderV2(ctx))
	}
	return all
}

func (s *shipped) Querier(mint, maxt int64) (storage.Querier, error) {
	if s.dirty {
		s.ship()
		s.dirty = false
	}
	return s.queries.Querier(mint, maxt)
}

// ship uploads all samples to a new bucket and opens a gateway on it.
func (s *shipped) ship() {
	s.stop()
	bkt := bucket.NewMemory()
	for i, db := range s.replicas {
		dir := s.t.TempDir()
		require.NoError(s.t, db.DB.Snapshot(dir, true))
		entries, err := os.ReadDir(dir)
		require.NoError(s.t, err)
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			meta, err := block.ReadMetaDir(path)
			require.NoError(s.t, err)
			meta.Thanos.Labels = map[string]string{replicaLabel: string(rune('a' + i))}
			require.NoError(s.t, block.WriteMetaDir(path, meta))
			_, err = block.Upload(s.t.Context(), bkt, path, block.UploadConfig{Columns: true, ColumnsFailed: func(err error) { s.t.Error(err) }})
			require.NoError(s.t, err)
		}
	}
	gateway := s.serve(bkt)
	all := fanout.New(func() []storeapi.Store { return []storeapi.Store{gateway} }, fanout.Config{})
	s.queries = query.NewQueryable(all, query.QueryableConfig{
		Defaults:             queryopts.Options{Dedup: true, ReplicaLabels: []string{replicaLabel}},
		MaxConcurrentSelects: 4,
	})
}

func (s *shipped) serve(bkt bucket.Reader) storeapi.Store {
	var cfg store.Config
	app := kingpin.New("store", "")
	cfg.RegisterFlags(app)
	_, err := app.Parse([]string{"--data-dir=" + s.t.TempDir()})
	require.NoError(s.t, err)
	g, err := store.New(cfg, store.Deps{Logger: slog.New(slog.DiscardHandler), Bucket: bkt})
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	s.stop = func() {
		cancel()
		require.NoError(s.t, <-done)
	}
	require.Eventually(s.t, func() bool { return g.Ready() == nil }, time.Minute, time.Millisecond)
	return storetest.ThroughGRPC(s.t, g)
}

func (s *shipped) Close() error {
	s.stop()
	return nil
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

func (a appenders) AppendExemplar(storage.SeriesRef, labels.Labels, exemplar.Exemplar) (storage.SeriesRef, error) {
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

// PromQL's built-in tests hold for data that is read from a bucket.
func TestPromQLFromABucket(t *testing.T) {
	if testing.Short() {
		t.Skip("builds many blocks")
	}
	for i, name := range []string{"one replica", "two replicas"} {
		t.Run(name, func(t *testing.T) {
			engine := promqltest.NewTestEngine(t, false, 5*time.Minute, promqltest.DefaultMaxSamplesPerQuery)
			promqltest.RunBuiltinTestsWithStorage(t, engine, func(t testing.TB) storage.Storage {
				return newShipped(t, i+1)
			})
		})
	}
}
