package multitsdb

import (
	"math"

	"github.com/prometheus/prometheus/storage"
)

// newest is the newest sample so far of the series in the request. The TSDB
// compares a sample with the committed ones. At the commit it drops, without an error,
// a sample that contradicts another one of the same request; the sender would take it
// for stored.
type newest struct {
	known bool
	point point
}

// next checks a sample or histogram against the newest, and replaces it.
func (n *newest) next(p *point, outOfOrder bool) error {
	switch {
	case !n.known || p.t > n.point.t:
		n.known, n.point = true, *p
	case p.t == n.point.t && !p.equals(&n.point):
		return storage.ErrDuplicateSampleForTimestamp
	case p.t < n.point.t && !outOfOrder:
		return storage.ErrOutOfOrderSample
	}
	return nil
}

// equals compares the values.
func (p *point) equals(o *point) bool {
	switch {
	case p.isFloat():
		return o.isFloat() && math.Float64bits(p.v) == math.Float64bits(o.v)
	case p.h != nil:
		return o.h != nil && p.h.Equals(o.h)
	}
	return o.fh != nil && p.fh.Equals(o.fh)
}
