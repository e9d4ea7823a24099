package replicate

import (
	"slices"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
)

// Part holds the series that one node stores for one tenant, as one copy.
type Part struct {
	Tenant string
	// Replica is the number of the copy, from 1; 0 when the part holds several
	// copies, for a peer that accepts such parts.
	Replica int
	// RequestID is the id of the client's request, which the peer logs; empty when there
	// is none.
	RequestID string
	// Regions are series in wire form, back to back.
	Regions [][]byte
	// Blocks, when not nil, are the same series as compressed blocks of
	// remotewrite; several may be back to back in one slice.
	Blocks [][]byte
	// Sizes are the bytes of the series of each replica set, in order.
	Sizes []int
	// sets are indexes of the plan's sets; a part without any is metadata.
	sets []int
	// replicas are the numbers of the copy of each set when Replica is 0.
	replicas []int
}

// byReplica splits a part that holds several copies into one for each number,
// without blocks. They share the part's memory.
func (p Part) byReplica() (out []Part) {
	if p.replicas == nil {
		return []Part{p}
	}
	region, at := 0, 0
	for i, size := range p.Sizes {
		k := slices.IndexFunc(out, func(o Part) bool { return o.Replica == p.replicas[i] })
		if k < 0 {
			k = len(out)
			out = append(out, Part{Tenant: p.Tenant, RequestID: p.RequestID, Replica: p.replicas[i]})
		}
		for size > 0 {
			rest := p.Regions[region][at:]
			n := min(size, len(rest))
			out[k].Regions = append(out[k].Regions, rest[:n:n])
			size, at = size-n, at+n
			if n == len(rest) {
				region, at = region+1, 0
			}
		}
	}
	return out
}

// cut splits a part that is one copy into parts of at most limit bytes, or one
// series. They share the part's memory.
func (p Part) cut(limit int) (out []Part) {
	room := 0
	for _, rest := range p.Regions {
		for len(rest) > 0 {
			n := remotewrite.Cut(rest, limit)
			if n > room {
				out = append(out, Part{Tenant: p.Tenant, RequestID: p.RequestID, Replica: p.Replica})
				room = limit
			}
			last := &out[len(out)-1]
			last.Regions, rest, room = append(last.Regions, rest[:n:n]), rest[n:], room-n
		}
	}
	return out
}
