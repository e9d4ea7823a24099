package query

import (
	"context"
	"fmt"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storerpc"
)

// badStore announces cluster="bad", and its answers have a fault.
type badStore struct {
	fault string
	asked atomic.Int64
}

func (b *badStore) Info() storeapi.Info {
	return storeapi.Info{
		Component: "sidecar", LabelSets: []labels.Labels{labels.FromStrings("cluster", "bad")},
		MinTime: math.MinInt64, MaxTime: math.MaxInt64, SupportsWithoutReplicaLabels: true, SupportsSortWithout: true,
	}
}

func (b *badStore) Select(ctx context.Context, _ *storeapi.Request) storeapi.SeriesSet {
	b.asked.Add(1)
	cluster, c := "bad", storeapi.Chunk{MinTime: 0, MaxTime: 600_000, Raw: storeapi.Data{Encoding: chunkenc.EncXOR, Bytes: twoFloats()}}
	switch b.fault {
	case "hangs":
		<-ctx.Done()
		return storeapi.ErrSet(ctx.Err())
	case "garbage":
		c.Raw.Bytes = []byte{0, 200, 1, 2, 3}
	case "bomb":
		// One histogram whose first span claims 2^32-1 buckets; see test/e2e.
		c.Raw = storeapi.Data{Encoding: chunkenc.EncHistogram, Bytes: []byte{0, 1, 0, 0, 0x4f, 0xf8, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xf8, 0, 0, 0, 0, 0, 0, 0, 0, 0}}
	case "labels":
		cluster = "other"
	}
	series := func(i int) storeapi.Series {
		return storeapi.Series{
			Labels: labels.FromStrings("__name__", "up", "cluster", cluster, "i", fmt.Sprintf("%09d", i)), Chunks: []storeapi.Chunk{c},
		}
	}
	if b.fault == "endless" {
		return &endlessSet{SeriesSet: storeapi.EmptySet(), ctx: ctx, series: series}
	}
	all := make([]storeapi.Series, 300)
	for i := range all {
		all[i] = series(i)
	}
	if b.fault == "order" {
		all[200], all[250] = all[250], all[200]
	}
	return storeapi.NewSliceSet(all)
}

func (b *badStore) LabelNames(ctx context.Context, _ *storeapi.Request) ([]string, storeapi.Warnings, error) {
	b.asked.Add(1)
	switch b.fault {
	case "hangs":
		<-ctx.Done()
		return nil, nil, ctx.Err()
	case "garbage":
		return []string{"\xff"}, nil, nil
	}
	return []string{"__name__", "cluster", "i"}, nil, nil
}

func (b *badStore) LabelValues(ctx context.Context, _ string, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	return b.LabelNames(ctx, r)
}

type endlessSet struct {
	storeapi.SeriesSet
	ctx    context.Context
	series func(int) storeapi.Series
	n      int
}

func (s *endlessSet) Next() bool          { s.n++; return s.ctx.Err() == nil }
func (s *endlessSet) At() storeapi.Series { return s.series(s.n) }
func (s *endlessSet) Err() error          { return s.ctx.Err() }

func twoFloats() []byte {
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	if err != nil {
		panic(err)
	}
	app.Append(0, 0, 1)
	app.Append(0, 600_000, 1)
	return c.Bytes()
}

// serve starts the store, and returns its address and what stops it.
func (b *badStore) serve(t *testing.T) (string, func()) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	if b.fault == "black hole" {
		// Connections are made, and nothing answers.
		t.Cleanup(func() { _ = lis.Close() })
		return lis.Addr().String(), func() {}
	}
	srv := grpc.NewServer(storerpc.ServerOptions()...)
	storerpc.RegisterStore(srv, b, storerpc.ServerConfig{})
	storerpc.RegisterInfo(srv, storerpc.InfoConfig{Info: b.Info, Services: storerpc.Services{Store: true}})
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(lis) }()
	stop := func() { srv.Stop(); <-done }
	t.Cleanup(stop)
	return lis.Addr().String(), stop
}

// One of two stores has a fault: each answer that needs it is an error or names it,
// and an answer that does not need it is complete without asking it.
func TestBadStore_AnswersAreMarkedOrFail(t *testing.T) {
	for _, fault := range []string{"dead", "hangs", "black hole", "garbage", "bomb", "labels", "order", "endless"} {
		t.Run(fault, func(t *testing.T) {
			good := newBackend(t, "cluster", "eu")
			good.write("up", 0, 40, func(int) float64 { return 1 })
			bad := &badStore{fault: fault}
			addr, stop := bad.serve(t)
			q := startQuerier(t, "--endpoint="+good.addr, "--endpoint="+addr, "--store.response-timeout=200ms", "--query.max-fetched-series=500",
				"--query.federate.max-series=500", "--query.lookback-delta=10000h")
			if fault == "dead" {
				stop()
			}
			both := `up{cluster=~"bad|eu|other"}`
			for _, r := range []struct {
				name, path string
				kv         []string
			}{
				{"instant", "/api/v1/query", []string{"query", "count(up{cluster!='x'})", "time", "600"}},
				{"range", "/api/v1/query_range", []string{"query", "count(up{cluster!='x'})", "start", "0", "end", "600", "step", "60"}},
				{"series", "/api/v1/series", []string{"match[]", both}},
				{"labels", "/api/v1/labels", []string{"match[]", both}},
				{"federate", "/federate", []string{"match[]", both, "partial_response", "true"}},
			} {
				if fault == "labels" {
					for i := range r.kv {
						if r.kv[i] == both || r.name == "instant" && i == 1 || r.name == "range" && i == 1 {
							r.kv[i] = `up{cluster=~"bad|eu"}`
						}
					}
				}
				ans := q.get(r.path, r.kv...)
				marked := ans.header.Get("X-Hindsight-Complete") == "false" && ans.header.Get("X-Hindsight-Missing") == addr
				switch {
				case ans.code != 200 && ans.header.Get("X-Hindsight-Complete") == "false":
				case marked:
				case r.name == "labels" && (fault == "bomb" || fault == "labels" || fault == "order" || fault == "endless"):
					// Such a fault has no counterpart there.
				case r.name == "series" && (fault == "garbage" || fault == "bomb"):
					// Chunks are not read.
				case r.name == "federate" && (fault == "garbage" || fault == "bomb" || fault == "order"):
					// The chunks are older than its lookback, and not read.
					require.Equal(t, 200, ans.code)
				case fault == "order":
					// The series were sorted here: all are there.
					require.True(t, r.name == "series" || strings.Contains(string(ans.Data), `"301"`), "%s: %s", r.name, ans.Data)
				default:
					t.Errorf("%s: unmarked answer %d: %v %s", r.name, ans.code, ans.header, ans.Data)
				}
			}
			if fault == "labels" {
				// Its labels are not believed any more, so that it is always asked.
				return
			}
			before := bad.asked.Load()
			_, ans := q.vector(`count(up{cluster="eu"})`, "time", "600", "partial_response", "false")
			if fault == "black hole" {
				// Nothing is known of it.
				require.Equal(t, 422, ans.code)
				return
			}
			require.Equal(t, 200, ans.code, ans.Error)
			require.Equal(t, "true", ans.header.Get("X-Hindsight-Complete"))
			require.Equal(t, before, bad.asked.Load())
		})
	}
}
