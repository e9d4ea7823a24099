package headerbundle

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/indexheader"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

const (
	// fullBundle is the size in bytes from which a bundle is left as it is, while
	// half of it is of use.
	fullBundle = 16 << 20
	// maxSmall is the number of bundles that are not full before they are merged.
	maxSmall = 8
	// maxNew bounds the headers that one update makes from indexes.
	maxNew = 1024
	// parallelIndexes is how many indexes are read at a time.
	parallelIndexes = 8
)

// Writer keeps the bundles of a bucket up to date. It must not be used concurrently;
// writers of several processes do not harm each other: bundles are immutable, named by
// their content, and removed only when others have all their headers of existing blocks.
// The worst result is a header in two bundles, or in none until the next update.
type Writer struct {
	bkt  bucket.Bucket
	seen map[string][]entry // directories, by bundle
}

// NewWriter makes a writer.
func NewWriter(bkt bucket.Bucket) *Writer { return &Writer{bkt: bkt, seen: map[string][]entry{}} }

// Block is a block that is to have its header in a bundle.
type Block struct {
	Meta      *block.Meta
	IndexSize int64
}

// stored is a bundle in the bucket with its entries of existing blocks.
type stored struct {
	object
	live  []entry
	bytes int64 // of live
}

// wasteful says whether more than half of the headers are of no use.
func (s *stored) wasteful() bool { return s.bytes < (s.size-s.directory)/2 }

// Update writes the headers of blocks that are in no bundle, which it makes from their
// indexes; merges small bundles and those that are mostly of blocks that are gone; and
// removes bundles that are of no use. A block whose index cannot be read is left out.
func (w *Writer) Update(ctx context.Context, blocks map[ulid.ULID]Block) error {
	have, err := w.bundles(ctx, blocks)
	if err != nil {
		return err
	}
	missing := map[ulid.ULID]Block{}
	for id, b := range blocks {
		missing[id] = b
	}
	var merge, gone []stored
	small := 0
	for _, s := range have {
		for _, e := range s.live {
			delete(missing, e.id)
		}
		switch {
		case len(s.live) == 0:
			gone = append(gone, s)
		case s.wasteful():
			merge = append(merge, s)
		case s.size < fullBundle:
			small++
		}
	}
	for _, s := range have {
		if small > maxSmall && len(s.live) > 0 && !s.wasteful() && s.size < fullBundle {
			merge = append(merge, s)
		}
	}
	headers, errs := w.make(ctx, missing)
	for _, s := range merge {
		old, err := w.read(ctx, s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		headers = append(headers, old...)
		gone = append(gone, s)
	}
	written, err := w.write(ctx, headers, blocks)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for _, s := range gone {
		if written[s.name] {
			continue // with the same content
		}
		if err := w.bkt.Delete(ctx, s.name); err != nil {
			errs = append(errs, fmt.Errorf("delete %s: %w", s.name, err))
		}
	}
	return errors.Join(errs...)
}

// bundles returns the bundles of the bucket. Of a header that is in several, the one in
// the largest bundle counts. Unusable bundles have no live headers.
func (w *Writer) bundles(ctx context.Context, blocks map[ulid.ULID]Block) ([]stored, error) {
	objects, err := list(ctx, w.bkt)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(objects, func(a, b object) int {
		return cmp.Or(cmp.Compare(b.size, a.size), cmp.Compare(a.name, b.name))
	})
	seen, taken := map[string][]entry{}, map[ulid.ULID]bool{}
	var out []stored
	for _, o := range objects {
		entries, ok := w.seen[o.name]
		if !ok {
			if entries, err = readDirectory(ctx, w.bkt, o); err != nil && !errors.Is(err, errCorrupt) {
				if errors.Is(err, bucket.ErrNotFound) {
					continue // another compactor has merged it
				}
				return nil, err
			}
		}
		seen[o.name] = entries
		s := stored{object: o}
		for _, e := range entries {
			if b, ok := blocks[e.id]; ok && !taken[e.id] && b.IndexSize == e.indexSize {
				taken[e.id] = true
				s.live = append(s.live, e)
				s.bytes += e.stored
			}
		}
		out = append(out, s)
	}
	w.seen = seen
	return out, nil
}

// make reads the indexes of blocks, the newest first, and packs their headers.
func (w *Writer) make(ctx context.Context, missing map[ulid.ULID]Block) ([]packed, []error) {
	var ids []ulid.ULID
	for id := range missing {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b ulid.ULID) int { return b.Compare(a) })
	ids = ids[:min(len(ids), maxNew)]
	out, errs := make([]packed, len(ids)), make([]error, len(ids))
	var g errgroup.Group
	g.SetLimit(parallelIndexes)
	for i, id := range ids {
		g.Go(func() error {
			h, err := indexheader.Fetch(ctx, w.bkt, block.Path(id, block.IndexFile), missing[id].IndexSize, nil)
			if err != nil {
				errs[i] = fmt.Errorf("block %s: %w", id, err)
				return nil
			}
			out[i] = pack(id, h)
			return h.Close()
		})
	}
	errs = append(errs, g.Wait())
	return slices.DeleteFunc(out, func(p packed) bool { return p.b == nil }), errs
}

// read returns the live headers of a bundle as they are stored. Damaged ones are left
// out, so that the next update makes them again.
func (w *Writer) read(ctx context.Context, s stored) ([]packed, error) {
	b, err := readRange(ctx, w.bkt, s.name, 0, s.size)
	if err != nil {
		return nil, err
	}
	var out []packed
	for _, e := range s.live {
		p := packed{entry: e, b: b[e.off : e.off+e.stored]}
		if _, err := unpack(e, p.b); err == nil {
			out = append(out, p)
		}
	}
	return out, nil
}

// write uploads headers in the order of the times of their blocks, which are queried
// together, in bundles of at most twice fullBundle. It returns their names.
func (w *Writer) write(ctx context.Context, headers []packed, blocks map[ulid.ULID]Block) (map[string]bool, error) {
	written := map[string]bool{}
	slices.SortFunc(headers, func(a, b packed) int {
		return cmp.Or(cmp.Compare(blocks[a.id].Meta.MinTime, blocks[b.id].Meta.MinTime), a.id.Compare(b.id))
	})
	for len(headers) > 0 {
		n, bytesOf := 0, int64(0)
		for n < min(len(headers), maxEntries) && (n == 0 || bytesOf+headers[n].stored <= 2*fullBundle) {
			bytesOf += headers[n].stored
			n++
		}
		name, b := encode(headers[:n])
		headers = headers[n:]
		if len(b) > maxBundle {
			continue // one header that readers would refuse
		}
		if err := w.bkt.Upload(ctx, name, bytes.NewReader(b), int64(len(b))); err != nil {
			return written, fmt.Errorf("upload %s: %w", name, err)
		}
		written[name] = true
	}
	return written, nil
}
