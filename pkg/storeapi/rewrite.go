package storeapi

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"
)

// rewriter turns the label sets inside a store into those of the answer: labels
// named in drop go away, the external labels are added and override equal names.
// It also knows how far the order of the result can differ from the order of
// what it reads.
type rewriter struct {
	order Order
	drop  []string       // sorted; only names that series may carry
	ext   []labels.Label // sorted by name, without those in drop
	// gone are the names that series may carry and the order does not see: those of
	// drop and those that the order leaves out, sorted.
	gone []string
	// mayTie says that series which differ in labels that the order leaves out first
	// may be in another order than their full label sets.
	mayTie bool
	// holdBack expects series that become a strict prefix of those before them;
	// see bound.
	holdBack bool

	splicer *splicer
	// simple holds as long as labels are only added: no label set so far had one
	// that is dropped or overridden, and none is expected to become a prefix.
	simple bool

	// hidden are the labels of the last series that external ones override, as text;
	// empty when there are none.
	hidden   string
	in       []labels.Label
	builder  labels.ScratchBuilder
	boundary labels.ScratchBuilder
}

func newRewriter(r Reorder) *rewriter {
	rw := &rewriter{order: r.Order, holdBack: !r.NoPrefixes, builder: labels.NewScratchBuilder(16)}
	for _, name := range r.Drop {
		if r.Own == nil || r.Own(name) {
			rw.drop = append(rw.drop, name)
		}
	}
	slices.Sort(rw.drop)
	rw.gone = slices.Clone(rw.drop)
	for _, name := range r.Order.without {
		if (r.Own == nil || r.Own(name)) && !slices.Contains(r.Drop, name) {
			rw.gone = append(rw.gone, name)
			rw.mayTie = true
		}
	}
	slices.Sort(rw.gone)
	r.External.Range(func(l labels.Label) {
		if !slices.Contains(r.Drop, l.Name) {
			rw.ext = append(rw.ext, l)
		}
	})
	rw.splicer = newSplicer(rw.ext, rw.gone, r.Order)
	rw.simple = !rw.holdBack || len(rw.gone) == 0
	return rw
}

func (rw *rewriter) dropped(name string) bool {
	_, ok := slices.BinarySearch(rw.drop, name)
	return ok
}

func (rw *rewriter) external(name string) bool {
	for i := range rw.ext {
		if rw.ext[i].Name == name {
			return true
		}
	}
	return false
}

// rewrite returns the label set of the answer for one that was read, and the
// bound: no label set that is read later becomes smaller than bound. Only labels that
// the order counts matter here, the others are as if they were dropped.
//
// Why order can break at all, with S read before F:
//
//   - S and F agree up to a label that is dropped or overridden. The labels after it
//     now decide, in any order: the bound is the labels before that one.
//   - S has ended where F goes on with a name smaller than an external label
//     that is added behind. F becomes the smaller one: the bound is S without
//     the external labels behind its end.
//   - F goes on with a dropped label, and nothing after it, where S has a
//     smaller name: F becomes a prefix of S. That can happen at every label of
//     S, so with holdBack the bound is the first label of S (with external
//     labels before it). An F that loses all of its labels is not expected.
//
// The three cases together are exact: everything else keeps its order. kept is
// how many of these labels of S are left. The bound is valid until the next call.
func (rw *rewriter) rewrite(lset labels.Labels) (out, bound labels.Labels, kept int) {
	rw.in = rw.in[:0]
	lset.Range(func(l labels.Label) { rw.in = append(rw.in, l) })
	rw.builder.Reset()
	rw.hidden = ""
	bounded, changed := false, false
	size, boundSize, ext := 0, 0, rw.ext
	for _, l := range rw.in {
		for len(ext) > 0 && ext[0].Name < l.Name {
			rw.builder.Add(ext[0].Name, ext[0].Value)
			size += rw.counts(ext[0].Name)
			ext, changed = ext[1:], true
		}
		gone, counts := rw.dropped(l.Name) || rw.external(l.Name), rw.counts(l.Name)
		behind := len(rw.ext)-len(ext) < rw.splicer.counted
		if !bounded && (gone || counts == 0 || rw.mayEndBefore(l.Name, kept, behind)) {
			bounded, boundSize = true, size
		}
		if gone {
			changed = true
			if !rw.dropped(l.Name) {
				rw.hidden += l.Name + "\xff" + l.Value + "\xff"
			}
			continue
		}
		rw.builder.Add(l.Name, l.Value)
		size, kept = size+counts, kept+counts
	}
	if !bounded {
		boundSize = size
	}
	for _, l := range ext {
		rw.builder.Add(l.Name, l.Value)
		size += rw.counts(l.Name)
		changed = true
	}
	out = lset
	if changed {
		out = rw.builder.Labels()
	}
	if boundSize == size {
		return out, out, kept
	}
	return out, rw.prefix(out, boundSize), kept
}

// counts is 1 for a label that the order counts, and 0 for others.
func (rw *rewriter) counts(name string) int {
	if rw.order.leavesOut(name) {
		return 0
	}
	return 1
}

// add is rewrite for as long as it is simple. waits says that the result must
// wait for the next label set, and that all results before it need not.
func (rw *rewriter) add(lset labels.Labels) (out labels.Labels, waits bool) {
	if rw.simple {
		out, waits, rw.simple = rw.splicer.add(lset)
	}
	return out, waits || rw.mayTie
}

// mayEndBefore reports whether a later label set may be the labels kept so far
// and nothing more. behind says that an external label comes later.
func (rw *rewriter) mayEndBefore(name string, kept int, behind bool) bool {
	return rw.holdBack && kept > 0 && !behind &&
		len(rw.gone) > 0 && rw.gone[len(rw.gone)-1] > name
}

// canBeLate reports whether a label set of which kept labels are left may have to
// be returned before one that was.
func (rw *rewriter) canBeLate(kept int) bool {
	return len(rw.gone) > 0 && (kept == 0 || !rw.holdBack)
}

// prefix returns the first n labels of lset that the order counts, in memory that
// the next call uses again.
func (rw *rewriter) prefix(lset labels.Labels, n int) (p labels.Labels) {
	rw.boundary.Reset()
	i := 0
	lset.Range(func(l labels.Label) {
		if i < n && rw.counts(l.Name) == 1 {
			rw.boundary.Add(l.Name, l.Value)
			i++
		}
	})
	rw.boundary.Overwrite(&p)
	return p
}
