package storerpc

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb"
	"github.com/hindsight-io/hindsight/pkg/storeapi/storepb/infopb"
)

// streamWindow is how many bytes of one stream a server may send ahead of what
// its client has read. It bounds the memory of a client together with the two
// frames that are decoded ahead. gRPC would otherwise grow the window to 16 MiB.
const streamWindow = 512 << 10

// DialOptions are the options of a connection that fit the protocol: messages of
// a bounded size and a bounded window per stream. The window of the connection is
// larger, so that a stream whose reader has stopped does not stop the others.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(defaultMessageBytes)),
		grpc.WithMaxHeaderListSize(maxHeaderBytes),
		grpc.WithReadBufferSize(ioBuffer),
		experimental.WithBufferPool(&bufferPool{}),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(16 * streamWindow),
	}
}

// ClientOption changes how a Client calls.
type ClientOption func(*Client)

// Pace bounds how long a server may send nothing while its answer is waited for.
// It may be used concurrently.
type Pace interface {
	// Limit is the bound for a wait that begins now; 0 means that only the
	// context bounds it.
	Limit(ctx context.Context) time.Duration
	// Waited reports how long the server was waited for.
	Waited(d time.Duration)
}

// WithPace fails a Select when the server sends nothing for longer than the pace
// allows. The error is storeapi.ErrSilent.
func WithPace(p Pace) ClientOption {
	return func(c *Client) { c.pace = p }
}

// WithBatchSize asks the server for n series a frame instead of 64; 1 asks for
// the form that knows no batches.
func WithBatchSize(n int) ClientOption {
	return func(c *Client) { c.batch = n }
}

// WithCompression compresses the calls, and so the answers, with the named
// compression; see package grpcsnappy.
func WithCompression(name string) ClientOption {
	return func(c *Client) {
		if name != "" && name != "none" {
			c.callOptions = append(c.callOptions, grpc.UseCompressor(name))
		}
	}
}

// Client is the Store behind a gRPC connection. It also is a source of metadata,
// exemplars, rules, targets and statistics of TSDBs, where the server offers
// them.
type Client struct {
	name string
	// conn serves the calls whose answer is one message.
	conn        grpc.ClientConnInterface
	store       storepb.StoreClient
	metadata    storepb.MetadataClient
	exemplars   storepb.ExemplarsClient
	rules       storepb.RulesClient
	targets     storepb.TargetsClient
	status      storepb.StatusClient
	query       storepb.QueryClient
	callOptions []grpc.CallOption
	pace        Pace
	batch       int
	known       atomic.Pointer[knownInfo]
}

type knownInfo struct {
	info     storeapi.Info
	services Services
}

// NewClient returns a Store over conn, which stays the caller's. name, usually
// the address, appears in errors and warnings.
func NewClient(conn grpc.ClientConnInterface, name string, opts ...ClientOption) *Client {
	c := &Client{
		name:      name,
		conn:      conn,
		store:     storepb.NewStoreClient(conn),
		metadata:  storepb.NewMetadataClient(conn),
		exemplars: storepb.NewExemplarsClient(conn),
		rules:     storepb.NewRulesClient(conn),
		targets:   storepb.NewTargetsClient(conn),
		status:    storepb.NewStatusClient(conn),
		query:     storepb.NewQueryClient(conn),
		callOptions: []grpc.CallOption{
			grpc.ForceCodecV2(Codec()),
			grpc.MaxCallRecvMsgSize(defaultMessageBytes),
		},
		batch: 64,
	}
	for _, o := range opts {
		o(c)
	}
	c.known.Store(&knownInfo{info: unknownInfo()})
	return c
}

// Name is the name given to NewClient.
func (c *Client) Name() string { return c.name }

// Refresh calls the Info service and remembers the answer. After an error the
// answer before it stays.
func (c *Client) Refresh(ctx context.Context) error {
	var header metadata.MD
	// A connection that is just being made is waited for: ctx bounds it.
	opts := append(c.callOptions[:len(c.callOptions):len(c.callOptions)], grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(maxInfoBytes), grpc.Header(&header))
	resp := &infopb.InfoResponse{}
	m := &measured{message: resp, left: maxInfoMemory, each: elementMemory}
	if err := m.failure(c.conn.Invoke(outgoing(ctx), infopb.Info_Info_FullMethodName, &infopb.InfoRequest{}, m, opts...)); err != nil {
		return fmt.Errorf("fetch info from %s: %w", c.name, err)
	}
	info, services := infoFromWire(resp)
	if id := header.Get(instanceKey); len(id) > 0 {
		info.Instance = id[0][:min(len(id[0]), maxInstance)]
	}
	c.known.Store(&knownInfo{info: info, services: services})
	return nil
}

// Info is the answer to the last successful Refresh; before the first one it is a
// store of any component with any label at any time.
func (c *Client) Info() storeapi.Info { return c.known.Load().info }

// Services are those announced to the last successful Refresh; none before.
func (c *Client) Services() Services { return c.known.Load().services }

// LabelNames asks the remote store.
func (c *Client) LabelNames(ctx context.Context, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	hints, err := namesHintsToWire(r.BlockMatchers)
	if err != nil {
		return nil, nil, err
	}
	resp := &storepb.LabelNamesResponse{}
	err = c.fetchNames(ctx, storepb.Store_LabelNames_FullMethodName, &storepb.LabelNamesRequest{
		PartialResponseDisabled: r.Partial == storeapi.PartialAbort,
		PartialResponseStrategy: strategyToWire(r.Partial),
		Start:                   r.MinTime,
		End:                     r.MaxTime,
		Hints:                   hints,
		Matchers:                matchersToWire(r.Matchers),
		WithoutReplicaLabels:    r.WithoutReplicaLabels,
		Limit:                   int64(r.Limit),
	}, resp)
	if err != nil {
		return nil, nil, fmt.Errorf("fetch label names from store %s: %w", c.name, err)
	}
	return storeapi.CompleteValues(resp.GetNames(), r), c.warnings(textsOf(resp.GetWarnings())), nil
}

// LabelValues asks the remote store.
func (c *Client) LabelValues(ctx context.Context, name string, r *storeapi.Request) ([]string, storeapi.Warnings, error) {
	hints, err := valuesHintsToWire(r.BlockMatchers)
	if err != nil {
		return nil, nil, err
	}
	resp := &storepb.LabelValuesResponse{}
	err = c.fetchNames(ctx, storepb.Store_LabelValues_FullMethodName, &storepb.LabelValuesRequest{
		Label:                   name,
		PartialResponseDisabled: r.Partial == storeapi.PartialAbort,
		PartialResponseStrategy: strategyToWire(r.Partial),
		Start:                   r.MinTime,
		End:                     r.MaxTime,
		Hints:                   hints,
		Matchers:                matchersToWire(r.Matchers),
		WithoutReplicaLabels:    r.WithoutReplicaLabels,
		Limit:                   int64(r.Limit),
	}, resp)
	if err != nil {
		return nil, nil, fmt.Errorf("fetch label values from store %s: %w", c.name, err)
	}
	return storeapi.CompleteValues(resp.GetValues(), r), c.warnings(textsOf(resp.GetWarnings())), nil
}

// fetchNames makes a call whose answer is a list of names or values, which is decoded
// only when it is within the bounds: each takes many times more in memory than the two
// bytes that it may have on the wire.
func (c *Client) fetchNames(ctx context.Context, method string, in proto.Message, out listed) error {
	m := &measured{message: out, left: maxNamesMemory, each: nameMemory}
	return m.failure(c.conn.Invoke(outgoing(ctx), method, in, m, c.callOptions...))
}
