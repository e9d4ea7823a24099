package bucketblock

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/hindsight-io/hindsight/pkg/block/indexheader"
	"github.com/hindsight-io/hindsight/pkg/store/pagecache"
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// expand reads the postings lists of the selection with one round of requests
// and returns the references of the series in ascending order.
func (r *reader) expand(ctx context.Context, sel selection) ([]uint32, error) {
	if sel.none {
		return nil, nil
	}
	pages := r.b.env.Pages.Open(r.index, r.q.Account)
	defer pages.Recycle()
	var ranges []pagecache.Range
	for _, gs := range [][]group{sel.with, sel.without} {
		for _, g := range gs {
			for _, p := range g.lists {
				ranges = append(ranges, pagecache.Range{Off: p.Offset, End: p.Offset + p.Length})
				r.stats.PostingsTouched++
			}
		}
	}
	counts, err := pages.Load(ctx, ranges)
	if err != nil {
		return nil, err
	}
	r.stats.PostingsFetches += counts.Requests
	r.stats.PostingsBytes += counts.Bytes
	r.stats.PostingsFetched += int64(len(ranges))
	r.countRead(counts)

	refs, err := r.union(pages, sel.with[0])
	if err != nil {
		return nil, err
	}
	for _, g := range sel.with[1:] {
		other, err := r.union(pages, g)
		if err != nil {
			return nil, err
		}
		refs = intersect(refs, other)
	}
	for _, g := range sel.without {
		other, err := r.union(pages, g)
		if err != nil {
			return nil, err
		}
		refs = subtract(refs, other)
	}
	return refs, nil
}

// union decodes the lists of a group into one ascending list.
func (r *reader) union(pages *pagecache.Pages, g group) ([]uint32, error) {
	start, end := r.h.Series()
	most := (end-start)/seriesAlign + 1 // the last one may be shorter
	refs := make([]uint32, 0, min(g.count, most))
	for _, p := range g.lists {
		if p.Length == 0 {
			continue // the list of all series of an empty block
		}
		b, err := pages.Bytes(pagecache.Range{Off: p.Offset, End: p.Offset + p.Length})
		if err != nil {
			return nil, err
		}
		if refs, err = appendPostings(refs, b, p); err != nil {
			return nil, err
		}
		if int64(len(refs)) > most {
			return nil, fmt.Errorf("%w: postings lists have more entries than there can be series", errDamaged)
		}
	}
	if !slices.IsSorted(refs) {
		slices.Sort(refs)
	}
	return slices.Compact(refs), nil
}

// appendPostings decodes one list:
//
//	length u32 | count u32 | count × reference u32 | CRC32 u32 | padding
//
// all big-endian; length counts the bytes between it and the checksum.
func appendPostings(refs []uint32, b []byte, p indexheader.Postings) ([]uint32, error) {
	bad := func(detail string) error {
		return fmt.Errorf("%w: postings list at %d: %s", errDamaged, p.Offset, detail)
	}
	if len(b) < 12 {
		return nil, bad("too short")
	}
	n := uint64(binary.BigEndian.Uint32(b))
	if n < 4 || n+8 > uint64(len(b)) {
		return nil, bad("length out of bounds")
	}
	body := b[4 : 4+n]
	if crc32.Checksum(body, castagnoli()) != binary.BigEndian.Uint32(b[4+n:]) {
		return nil, bad("wrong checksum")
	}
	count := uint64(binary.BigEndian.Uint32(body))
	if n != 4+4*count {
		return nil, bad("count does not fit its length")
	}
	for v := body[4:]; len(v) > 0; v = v[4:] {
		refs = append(refs, binary.BigEndian.Uint32(v))
	}
	return refs, nil
}

// intersect keeps the elements of a that are in b, in place. Both ascend. When
// one list is far longer, it is searched and not walked.
func intersect(a, b []uint32) []uint32 {
	out := a[:0]
	for _, v := range a {
		b = b[lowerBound(b, v):]
		if len(b) == 0 {
			break
		}
		if b[0] == v {
			out = append(out, v)
		}
	}
	return out
}

// subtract removes the elements of b from a, in place. Both ascend.
func subtract(a, b []uint32) []uint32 {
	out := a[:0]
	for _, v := range a {
		b = b[lowerBound(b, v):]
		if len(b) == 0 || b[0] != v {
			out = append(out, v)
		}
	}
	return out
}

// lowerBound returns the position of the first element that is v or greater,
// looking near the beginning first.
func lowerBound(s []uint32, v uint32) int {
	step := 1
	for step < len(s) && s[step-1] < v {
		step *= 2
	}
	lo, hi := step/2, min(step, len(s))
	i, _ := slices.BinarySearch(s[lo:hi], v)
	return lo + i
}
