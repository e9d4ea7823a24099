package store

import (
	"fmt"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/storeapi"
)

// collisionSet reports different series of one block that have become one: they
// have labels named like external labels of the block, which override them.
type collisionSet struct {
	storeapi.SeriesSet
	block   ulid.ULID
	names   []string // of the external labels that series carry themselves
	last    labels.Labels
	begun   bool
	count   int
	example string
}

// reportCollisions returns set, or a set around it when series of the block carry
// external labels that the request does not remove anyway. A request that removes
// a label which series of the block carry wants series to become one, and why two
// of them did cannot be told then: there are no reports.
func reportCollisions(set storeapi.SeriesSet, id ulid.ULID, order storeapi.Reorder) storeapi.SeriesSet {
	if slices.ContainsFunc(order.Drop, order.Own) {
		return set
	}
	var names []string
	order.External.Range(func(l labels.Label) {
		if order.Own(l.Name) && !slices.Contains(order.Drop, l.Name) {
			names = append(names, l.Name)
		}
	})
	if len(names) == 0 {
		return set
	}
	return &collisionSet{SeriesSet: set, block: id, names: names}
}

func (s *collisionSet) Next() bool {
	if !s.SeriesSet.Next() {
		return false
	}
	lset := s.SeriesSet.At().Labels
	if s.begun && labels.Equal(lset, s.last) {
		if s.count++; s.count == 1 {
			s.example = lset.String()
		}
	}
	s.begun, s.last = true, lset
	return true
}

func (s *collisionSet) Warnings() storeapi.Warnings {
	ws := s.SeriesSet.Warnings()
	if s.count == 0 {
		return ws
	}
	return append(slices.Clone(ws), storeapi.Warning{Text: fmt.Sprintf(
		"block %s: %d series became one with another, because they carry labels named like its external labels %s, which override them; for example %s",
		s.block, s.count, strings.Join(s.names, ", "), s.example)})
}
