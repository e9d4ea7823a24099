package storeapi

import (
	"slices"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/zerocopy"
)

// Order is the order of the series of an answer: ascending by the label sets without
// some labels, then by the full label sets. The zero value is the order of
// labels.Compare. It is immutable and may be used concurrently.
type Order struct{ without []string }

// NewOrder returns the order that leaves out the named labels first.
func NewOrder(without []string) Order { return Order{without: slices.Clone(without)} }

// Order is the order in which the request wants the series.
func (r *Request) Order() Order { return Order{without: r.SortWithout} }

// Compare returns a number below, equal to or above 0, as a sorts before, with or
// behind b. Only equal label sets are equal.
func (o Order) Compare(a, b labels.Labels) int {
	if len(o.without) == 0 {
		return labels.Compare(a, b)
	}
	x, y := zerocopy.CutCommon(zerocopy.Encoding(a), zerocopy.Encoding(b))
	if c := o.compareFrom(x, y); c != 0 {
		return c
	}
	return Order{}.compareFrom(x, y)
}

// CompareKeys compares the label sets without the labels that the order leaves out.
func (o Order) CompareKeys(a, b labels.Labels) int {
	if len(o.without) == 0 {
		return labels.Compare(a, b)
	}
	return o.compareFrom(zerocopy.CutCommon(zerocopy.Encoding(a), zerocopy.Encoding(b)))
}

// Key returns a label set without the labels that the order leaves out.
func (o Order) Key(lset labels.Labels) labels.Labels {
	if len(o.without) == 0 {
		return lset
	}
	set := zerocopy.Encoding(lset)
	var key []byte
	kept := 0 // set[kept:] is not yet copied
	for rest := set; rest != ""; {
		from := len(set) - len(rest)
		var name string
		name, rest = zerocopy.CutPart(rest)
		_, rest = zerocopy.CutPart(rest)
		if o.leavesOut(name) {
			if key == nil {
				key = make([]byte, 0, len(set))
			}
			key = append(key, set[kept:from]...)
			kept = len(set) - len(rest)
		}
	}
	if key == nil {
		return lset
	}
	return zerocopy.Labels(append(key, set[kept:]...))
}

// compareFrom compares two encoded sets without the labels that the order leaves
// out. It allocates nothing.
func (o Order) compareFrom(x, y string) int {
	for {
		x, y = o.skip(x), o.skip(y)
		if x == "" || y == "" || x == y {
			return len(x) - len(y)
		}
		var p, q string
		for range 2 { // the name, then the value
			p, x = zerocopy.CutPart(x)
			q, y = zerocopy.CutPart(y)
			if p != q {
				if p < q {
					return -1
				}
				return 1
			}
		}
	}
}

// skip returns an encoded set from its first label on that the order does not leave
// out.
func (o Order) skip(set string) string {
	for set != "" {
		name, rest := zerocopy.CutPart(set)
		if !o.leavesOut(name) {
			break
		}
		_, set = zerocopy.CutPart(rest)
	}
	return set
}

func (o Order) leavesOut(name string) bool {
	for _, w := range o.without {
		if w == name {
			return true
		}
	}
	return false
}
