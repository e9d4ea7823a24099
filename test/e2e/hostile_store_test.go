package e2e

import (
	"context"
	"fmt"
	"math"
	"net"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/infopb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/labelpb"
)

// hostileStore is a StoreAPI server whose answer is an attack on the memory or
// the time of the querier. The requested metric name chooses the attack;
// the metric "good" has one series.
type hostileStore struct {
	storepb.UnimplementedStoreServer
	infopb.UnimplementedInfoServer
}

func startHostileStore(t *testing.T, host string) (address string) {
	t.Helper()
	return startStore(t, host, hostileStore{})
}

// startStore serves a store.
func startStore(t *testing.T, host string, store interface {
	storepb.StoreServer
	infopb.InfoServer
},
) (address string) {
	t.Helper()
	lis, err := net.Listen("tcp", host+":0")
	require.NoError(t, err)
	srv := grpc.NewServer(grpc.MaxSendMsgSize(math.MaxInt32))
	storepb.RegisterStoreServer(srv, store)
	infopb.RegisterInfoServer(srv, store)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		require.NoError(t, <-done)
	})
	return lis.Addr().String()
}

func (hostileStore) Info(context.Context, *infopb.InfoRequest) (*infopb.InfoResponse, error) {
	external := &labelpb.ZLabelSet{Labels: []*labelpb.Label{{Name: "cluster", Value: "hostile"}}}
	return &infopb.InfoResponse{
		ComponentType: "sidecar", LabelSets: []*labelpb.ZLabelSet{external},
		Store: &infopb.StoreInfo{MinTime: math.MinInt64, MaxTime: math.MaxInt64},
	}, nil
}

// attacks are the answers by the name of the metric. Each ends when the stream
// does.
func (hostileStore) attacks() map[string]func(send func(*storepb.SeriesResponse) error) error {
	type sender = func(*storepb.SeriesResponse) error
	return map[string]func(sender) error{
		"good": func(send sender) error { return send(frame(series("good", "", floats()))) },
		"endless": func(send sender) error {
			for i := 0; ; i++ {
				if err := send(frame(series("endless", fmt.Sprintf("%012d", i), floats()))); err != nil {
					return err
				}
			}
		},
		"repeated": func(send sender) error {
			for range 100_000 {
				if err := send(frame(series("repeated", "same", floats()))); err != nil {
					return err
				}
			}
			return nil
		},
		"large_frames": func(send sender) error {
			big := &storepb.Chunk{Type: storepb.Chunk_XOR, Data: make([]byte, 200<<20)}
			for i := range 20 {
				if err := send(frame(series("large_frames", fmt.Sprintf("%012d", i), big))); err != nil {
					return err
				}
			}
			return nil
		},
		"large_warnings": func(send sender) error {
			text := strings.Repeat("warning ", 4<<20)
			for range 100 {
				if err := send(&storepb.SeriesResponse{Result: &storepb.SeriesResponse_Warning{Warning: text}}); err != nil {
					return err
				}
			}
			return nil
		},
		"empty_frames": func(send sender) error {
			for {
				if err := send(&storepb.SeriesResponse{}); err != nil {
					return err
				}
			}
		},
		"many_labels": func(send sender) error {
			s := series("many_labels", "", floats())
			for i := range 1_000_000 {
				s.Labels = append(s.Labels, &labelpb.Label{Name: fmt.Sprintf("n%07d", i), Value: "v"})
			}
			return send(frame(s))
		},
		"histogram_bomb": func(send sender) error {
			for _, typ := range []storepb.Chunk_Encoding{storepb.Chunk_HISTOGRAM, storepb.Chunk_FLOAT_HISTOGRAM} {
				bomb := &storepb.Chunk{Type: typ, Data: histogramBomb()}
				if err := send(frame(series("histogram_bomb", typ.String(), bomb))); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (h hostileStore) Series(r *storepb.SeriesRequest, stream grpc.ServerStreamingServer[storepb.SeriesResponse]) error {
	for _, m := range r.GetMatchers() {
		if attack := h.attacks()[m.GetValue()]; m.GetName() == "__name__" && attack != nil {
			return attack(stream.Send)
		}
	}
	return nil
}

func (hostileStore) LabelNames(context.Context, *storepb.LabelNamesRequest) (*storepb.LabelNamesResponse, error) {
	return &storepb.LabelNamesResponse{Names: []string{"__name__", "cluster", "id"}}, nil
}

func (hostileStore) LabelValues(context.Context, *storepb.LabelValuesRequest) (*storepb.LabelValuesResponse, error) {
	return &storepb.LabelValuesResponse{}, nil
}

func frame(s *storepb.Series) *storepb.SeriesResponse {
	return &storepb.SeriesResponse{Result: &storepb.SeriesResponse_Series{Series: s}}
}

// hostileTime is the time of the samples of the hostile store, in milliseconds.
const hostileTime = int64(1_700_000_000_000)

func series(name, id string, c *storepb.Chunk) *storepb.Series {
	s := &storepb.Series{Labels: []*labelpb.Label{{Name: "__name__", Value: name}, {Name: "cluster", Value: "hostile"}}}
	if id != "" {
		s.Labels = append(s.Labels, &labelpb.Label{Name: "id", Value: id})
	}
	s.Chunks = []*storepb.AggrChunk{{MinTime: hostileTime, MaxTime: hostileTime + 119*15_000, Raw: c}}
	return s
}

func floats() *storepb.Chunk {
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	if err != nil {
		panic(err)
	}
	for i := range int64(120) {
		app.Append(0, hostileTime+i*15_000, float64(i*i%97))
	}
	return &storepb.Chunk{Type: storepb.Chunk_XOR, Data: c.Bytes()}
}

// histogramBomb is a chunk of one histogram whose first span claims 2^32-1
// buckets: number of samples, flags, schema 0 and zero threshold as one byte
// each, then one span as variable-length integers, and no bucket.
func histogramBomb() []byte {
	var w bitWriter
	w.bits(1, 16)         // samples
	w.bits(0, 8)          // counter reset header
	w.bits(0, 8)          // zero threshold 0
	w.bits(0b0, 1)        // schema 0
	w.bits(0b10, 2)       // one positive span:
	w.bits(1, 3)          // its number as in varbit encoding
	w.bits(0b11111111, 8) // length: 64 bits follow
	w.bits(math.MaxUint32, 64)
	w.bits(0, 1)  // offset 0
	w.bits(0, 1)  // no negative spans
	w.bits(0, 64) // what a reader may look at before it gives up
	return w.out
}

// bitWriter writes bits, the highest first.
type bitWriter struct {
	out  []byte
	free int
}

func (w *bitWriter) bits(v uint64, n int) {
	for i := n - 1; i >= 0; i-- {
		if w.free == 0 {
			w.out, w.free = append(w.out, 0), 8
		}
		w.free--
		w.out[len(w.out)-1] |= byte(v>>i&1) << w.free
	}
}
