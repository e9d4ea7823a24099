package peer

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/grpc/mem"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// Fields of thanos.WriteRequest and thanos.TimeSeriesTenantTuple.
const (
	tagTenant  = 2<<3 | protoscan.Bytes // of both messages
	tagReplica = 3<<3 | protoscan.Varint
	tagTuple   = 4<<3 | protoscan.Bytes
)

// Part is what one peer stores for one tenant.
type Part struct {
	Tenant string
	// Replica is the number of the copy, from 1. 0 means that the part holds
	// several copies, which only peers with our own service take.
	Replica int
	// RequestID is the id of the client's request; empty when there is none.
	RequestID string
	// Regions are series in wire form, back to back.
	Regions [][]byte
	// Blocks, when not nil, are the same series as compressed blocks.
	Blocks [][]byte
	// Sizes are the bytes of series of each replica set in the part, in order.
	Sizes []int
	// Arena is the buffer that the regions and blocks live in.
	Arena *remotewrite.Buffer
}

func (p *Part) size() int { return total(p.Regions) }

func total(list [][]byte) (n int) {
	for _, b := range list {
		n += len(b)
	}
	return n
}

// encode makes the message of parts of one tenant out of their own memory: only the bytes after
// the series are new. It is the form for one tenant, which all versions of Thanos read: released
// ones skip the form for many tenants, and acknowledge it. The slice holds a share of each arena
// until gRPC frees it.
func encode(parts []Part) mem.BufferSlice {
	var out mem.BufferSlice
	for i := range parts {
		for _, r := range parts[i].Regions {
			out = append(out, share(r, parts[i].Arena))
		}
	}
	of := &parts[0]
	tail := append(make([]byte, 0, len(of.Tenant)+24), tagTenant)
	tail = binary.AppendUvarint(tail, uint64(len(of.Tenant)))
	tail = append(tail, of.Tenant...)
	if of.Replica > 0 {
		tail = append(tail, tagReplica)
		tail = binary.AppendUvarint(tail, uint64(of.Replica))
	}
	return append(out, mem.SliceBuffer(tail))
}

// share makes a gRPC buffer of a region; it owns a share of the arena until
// gRPC, which may still read it after a call was cancelled, frees it.
func share(region []byte, arena *remotewrite.Buffer) mem.Buffer {
	if mem.IsBelowBufferPoolingThreshold(cap(region)) {
		// gRPC does not count owners of such small buffers.
		return mem.SliceBuffer(append([]byte(nil), region...))
	}
	arena.Retain()
	return mem.NewBuffer(&region, release{arena})
}

// release is the pool of a shared region: Put ends the share.
type release struct{ arena *remotewrite.Buffer }

func (release) Get(n int) *[]byte { b := make([]byte, n); return &b }

func (r release) Put(*[]byte) { r.arena.Release() }

// outgoing is a request, incoming a reply, as the client's codec sees them. Once
// the codec has handed its data over, gRPC frees it.
type outgoing struct{ data mem.BufferSlice }

// free frees data that gRPC has not taken.
func (o *outgoing) free() {
	o.data.Free()
	o.data = nil
}

type incoming struct{ data []byte }

// clientCodec passes bytes through. On the wire it is the codec "proto".
type clientCodec struct{}

func (clientCodec) Name() string { return "proto" }

func (clientCodec) Marshal(v any) (mem.BufferSlice, error) {
	o, ok := v.(*outgoing)
	if !ok {
		return nil, fmt.Errorf("marshal %T: not a request of this client", v)
	}
	data := o.data
	o.data = nil
	return data, nil
}

func (clientCodec) Unmarshal(data mem.BufferSlice, v any) error {
	in, ok := v.(*incoming)
	if !ok {
		return fmt.Errorf("unmarshal %T: not a reply of this client", v)
	}
	in.data = data.Materialize()
	return nil
}
