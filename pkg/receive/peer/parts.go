package peer

import (
	"encoding/binary"

	"google.golang.org/grpc/mem"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// A message of our own service: parts (field 1, repeated), each with a tenant
// (1), blocks of series (2 and 3, as in remotewrite), the bytes of series of
// each replica set (4, packed varints) and the id of the request (5). It is drawn in
// docs/format/remote-write-extensions.md.
const (
	tagPart       = 1<<3 | protoscan.Bytes
	tagPartTenant = 1<<3 | protoscan.Bytes
	tagPartSizes  = 4<<3 | protoscan.Bytes
	tagPartID     = 5<<3 | protoscan.Bytes
)

// encodeParts makes a message out of the parts' own memory: only the bytes around
// the series are new. The slice holds a share of each arena until gRPC frees it.
func encodeParts(parts []Part, compress bool) mem.BufferSlice {
	out := make(mem.BufferSlice, 0, 2*len(parts)+2)
	for i := range parts {
		p := &parts[i]
		switch {
		case p.Blocks != nil:
			out = append(out, mem.SliceBuffer(partHead(p, total(p.Blocks))))
			for _, b := range p.Blocks {
				out = append(out, share(b, p.Arena))
			}
		case compress:
			block := compressed(p)
			out = append(out, mem.SliceBuffer(partHead(p, len(block.B))), share(block.B, block))
			block.Release()
		default:
			plain := remotewrite.AppendPlainHead(nil, p.size())
			head := partHead(p, len(plain)+p.size())
			out = append(out, mem.SliceBuffer(append(head, plain...)))
			for _, r := range p.Regions {
				out = append(out, share(r, p.Arena))
			}
		}
	}
	return out
}

// compressed makes one block of all regions.
func compressed(p *Part) *remotewrite.Buffer {
	whole := remotewrite.NewBuffer(p.size())
	defer whole.Release()
	for _, r := range p.Regions {
		whole.B = append(whole.B, r...)
	}
	block := remotewrite.NewBuffer(remotewrite.MaxBlockSize(len(whole.B)))
	block.B = remotewrite.AppendBlock(block.B, whole.B)
	return block
}

// partHead returns the fields before n bytes of blocks.
func partHead(p *Part, n int) []byte {
	sizes := 0
	for _, s := range p.Sizes {
		sizes += protoscan.UvarintSize(uint64(s))
	}
	n += 1 + protoscan.UvarintSize(uint64(len(p.Tenant))) + len(p.Tenant) + 1 + protoscan.UvarintSize(uint64(sizes)) + sizes
	if p.RequestID != "" {
		n += 1 + protoscan.UvarintSize(uint64(len(p.RequestID))) + len(p.RequestID)
	}
	b := make([]byte, 0, 56+len(p.Tenant)+len(p.RequestID)+sizes)
	b = binary.AppendUvarint(append(b, tagPart), uint64(n))
	b = binary.AppendUvarint(append(b, tagPartTenant), uint64(len(p.Tenant)))
	b = append(b, p.Tenant...)
	b = binary.AppendUvarint(append(b, tagPartSizes), uint64(sizes))
	for _, s := range p.Sizes {
		b = binary.AppendUvarint(b, uint64(s))
	}
	if p.RequestID != "" {
		b = binary.AppendUvarint(append(b, tagPartID), uint64(len(p.RequestID)))
		b = append(b, p.RequestID...)
	}
	return b
}

// request is a received message of our own service. It is used again for the
// next one of its stream.
type request struct {
	limit int64
	parts []received
	sizes []int
	err   error  // the message cannot be read
	last  string // the tenant of the part before
	// ids are the ids of the requests of all parts, back to back.
	ids []byte
}

// received is one part; err is the error when it cannot be stored.
type received struct {
	tenant string
	batch  *remotewrite.Batch
	err    error
	// from and to are the part's sizes.
	from, to int
	// idFrom and idTo are the id of its request in ids.
	idFrom, idTo int
}

// read decodes a message. It keeps errors for the answer, so that one invalid message
// does not end the stream.
func (q *request) read(b []byte) error {
	left := q.limit
	fs, f := protoscan.Fields{B: b}, protoscan.Field{}
	for fs.Next(&f) {
		if f.Tag == tagPart {
			p := q.part(f.Data, left)
			if p.batch != nil {
				left -= int64(p.batch.Size())
			}
			q.parts = append(q.parts, p)
		}
	}
	if fs.Err() != nil {
		q.free()
		q.err = remotewrite.Errorf(remotewrite.Invalid, "malformed message of a peer")
	}
	return nil
}

// part decodes one part.
func (q *request) part(b []byte, limit int64) received {
	p := received{from: len(q.sizes)}
	fs, f := protoscan.Fields{B: b}, protoscan.Field{}
	for fs.Next(&f) {
		switch f.Tag {
		case tagPartTenant:
			if string(f.Data) != q.last {
				q.last = string(f.Data)
			}
			p.tenant = q.last
		case tagPartID:
			p.idFrom = len(q.ids)
			q.ids = append(q.ids, f.Data...)
			p.idTo = len(q.ids)
		case tagPartSizes:
			for i := 0; i < len(f.Data); {
				var v uint64
				if v, i = protoscan.Uvarint(f.Data, i); i < 0 || v > uint64(q.limit) {
					p.err = remotewrite.Errorf(remotewrite.Invalid, "malformed sizes of a peer")
					return p
				}
				q.sizes = append(q.sizes, int(v))
			}
		}
	}
	if fs.Err() != nil {
		p.err = remotewrite.Errorf(remotewrite.Invalid, "malformed part of a peer")
		return p
	}
	p.to = len(q.sizes)
	if err := tenant.Validate(p.tenant); err != nil {
		p.err = remotewrite.Errorf(remotewrite.Invalid, "write of a peer: %w", err)
		return p
	}
	p.batch, p.err = remotewrite.DecodeBlocks(b, limit)
	return p
}

// bySet changes the indexes of missing items from those of the series to those of
// the replica sets.
func (q *request) bySet(p *received, missing []remotewrite.Missing) (out []remotewrite.Missing) {
	sizes := q.sizes[p.from:p.to]
	set, end := 0, 0
	for _, m := range missing {
		at := p.batch.Offset(m.Index)
		for set < len(sizes) && end+sizes[set] <= at {
			end += sizes[set]
			set++
		}
		out = remotewrite.AddMissing(out, set, m.Counts)
	}
	return out
}

// free releases the batches and resets the request for the next message.
func (q *request) free() {
	for i := range q.parts {
		q.parts[i].batch.Close()
		q.parts[i] = received{}
	}
	q.parts, q.sizes, q.ids = q.parts[:0], q.sizes[:0], q.ids[:0]
}
