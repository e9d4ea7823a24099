package peer

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/requestid"
)

// Paths of the methods.
const (
	foreignService = "thanos.WriteableStore"
	foreignMethod  = "RemoteWrite"
	ownService     = "hindsight.receive.v1.Peer"
	ownMethod      = "Stream"
)

// The protocol of a peer, as far as it is known.
const (
	kindUnknown int32 = iota
	kindOwn
	kindForeign
)

// Client sends series to one peer. It may be used concurrently.
type Client struct {
	conn    grpc.ClientConnInterface
	kind    atomic.Int32
	foreign []grpc.CallOption
	// compress is set when series are compressed, in either protocol.
	compress bool
	streams  streams
}

// NewClient makes a client on a connection, whose owner closes it after the
// client. compression names a compressor known to gRPC, or is empty.
func NewClient(conn grpc.ClientConnInterface, compression string) *Client {
	c := &Client{conn: conn, foreign: []grpc.CallOption{grpc.ForceCodecV2(clientCodec{})}}
	c.streams.open = func(ctx context.Context) (grpc.ClientStream, error) {
		desc := &grpc.StreamDesc{StreamName: ownMethod, ServerStreams: true, ClientStreams: true}
		return conn.NewStream(ctx, desc, "/"+ownService+"/"+ownMethod, grpc.ForceCodecV2(clientCodec{}))
	}
	if compression != "" {
		c.compress = true
		c.foreign = append(c.foreign, grpc.UseCompressor(compression))
	}
	return c
}

// Close ends the streams that are open. No Send may be under way.
func (c *Client) Close() { c.streams.close() }

// Own reports whether the peer is known to have our own service, which takes parts
// with several copies.
func (c *Client) Own() bool { return c.kind.Load() == kindOwn }

// WantsBlocks reports whether parts for the peer should have blocks.
func (c *Client) WantsBlocks() bool { return c.Own() && c.compress }

// Send stores the parts on the peer. It returns one error for each part, or nil when
// everything was stored. down is the error when the peer cannot be reached. The
// regions may be read until Send returns, and longer through shares of their arenas.
func (c *Client) Send(ctx context.Context, parts []Part) (errs []error, down error) {
	if c.kind.Load() != kindForeign {
		errs, down, ok := c.sendOwn(ctx, parts)
		if ok {
			return errs, down
		}
	}
	return c.sendForeign(ctx, parts)
}

// sendOwn uses our own service. ok is false when the peer does not have it.
func (c *Client) sendOwn(ctx context.Context, parts []Part) (errs []error, down error, ok bool) {
	reply, err := c.streams.exchange(ctx, func() mem.BufferSlice { return encodeParts(parts, c.compress) })
	if status.Code(err) == codes.Unimplemented {
		c.kind.Store(kindForeign)
		return nil, nil, false
	}
	if err = fromStatus(err); err != nil {
		return all(len(parts), err), ifDown(err), true
	}
	c.kind.Store(kindOwn)
	errs, err = decodeResults(reply, len(parts))
	if err != nil {
		return all(len(parts), remotewrite.Errorf(remotewrite.Other, "%w", err)), nil, true
	}
	return errs, nil, true
}

// ifDown returns the error of a call when it means that the peer cannot be reached.
func ifDown(err error) error {
	if remotewrite.KindOf(err) == remotewrite.Unavailable {
		return err
	}
	return nil
}

// sendForeign uses WriteableStore: one message for each tenant and replica number. A message
// that fails for its content is sent again part by part, so that invalid data of one request is
// not reported for another.
func (c *Client) sendForeign(ctx context.Context, parts []Part) (errs []error, down error) {
	errs = make([]error, len(parts))
	failed := false
	for _, group := range byCopy(parts) {
		sub := make([]Part, len(group))
		for i, j := range group {
			sub[i] = parts[j]
		}
		err := c.writeForeign(ctx, sub)
		if err == nil {
			continue
		}
		failed = true
		if parts[group[0]].Replica > 0 { // it was asked
			down = cmp.Or(down, ifDown(err))
		}
		for i, j := range group {
			errs[j] = err
			if len(group) > 1 && remotewrite.KindOf(err) != remotewrite.Unavailable {
				errs[j] = c.writeForeign(ctx, sub[i:i+1])
			}
		}
	}
	if !failed {
		return nil, nil
	}
	return errs, down
}

func (c *Client) writeForeign(ctx context.Context, parts []Part) error {
	if parts[0].Replica == 0 {
		return remotewrite.Errorf(remotewrite.Unavailable, "the peer takes single copies only, since its restart")
	}
	if id := parts[0].RequestID; id != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, requestid.MetadataKey, id)
	}
	err := c.invoke(ctx, "/"+foreignService+"/"+foreignMethod, encode(parts), &incoming{})
	if status.Code(err) == codes.Unimplemented {
		c.kind.Store(kindUnknown)
	}
	return fromStatus(err)
}

// byCopy groups the indexes of parts by tenant and replica number, in order of first
// occurrence.
func byCopy(parts []Part) (groups [][]int) {
	type copyOf struct {
		tenant  string
		replica int
	}
	at := map[copyOf]int{}
	for i := range parts {
		key := copyOf{parts[i].Tenant, parts[i].Replica}
		g, ok := at[key]
		if !ok {
			g = len(groups)
			at[key] = g
			groups = append(groups, nil)
		}
		groups[g] = append(groups[g], i)
	}
	return groups
}

// invoke makes one call; gRPC frees the data.
func (c *Client) invoke(ctx context.Context, method string, data mem.BufferSlice, reply *incoming) error {
	return c.conn.Invoke(ctx, method, &outgoing{data}, reply, c.foreign...)
}

func all(n int, err error) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// fromStatus translates the error of a call.
func fromStatus(err error) error {
	kind := remotewrite.Other
	switch status.Code(err) {
	case codes.OK:
		return nil
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		kind = remotewrite.Unavailable
	case codes.AlreadyExists:
		kind = remotewrite.Conflict
	case codes.InvalidArgument:
		kind = remotewrite.Invalid
	case codes.ResourceExhausted:
		kind = remotewrite.LimitExceeded
	}
	return &remotewrite.WriteError{Kind: kind, Err: fmt.Errorf("write to peer: %w", errorid.Strip(err))}
}
