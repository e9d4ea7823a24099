package eval

import (
	"context"
	"errors"

	"github.com/prometheus/prometheus/promql/parser"
)

// setOperator evaluates and, or, unless. It holds which signatures have samples at
// which steps, and no samples.
type setOperator struct {
	sc   *scope
	op   parser.ItemType
	sign signer
	// first is read to its end before the other one. For `or` its rows are results.
	first, second operator

	present map[string]*stepSet
	firstly bool // the first operand has ended
}

// newSetOperator makes the operator for two operands on a grid. It owns them.
func newSetOperator(sc *scope, e *parser.BinaryExpr, left, right operator) *setOperator {
	s := &setOperator{sc: sc, op: e.Op, sign: newSigner(e.VectorMatching), first: right, second: left, present: map[string]*stepSet{}}
	if e.Op == parser.LOR {
		s.first, s.second = left, right
	}
	return s
}

func (s *setOperator) close() error { return errors.Join(s.first.close(), s.second.close()) }

// next implements operator.
func (s *setOperator) next(ctx context.Context) (*row, error) {
	for !s.firstly {
		r, err := s.first.next(ctx)
		if err != nil {
			return nil, err
		}
		if r == nil {
			s.firstly = true
			break
		}
		if err := s.add(ctx, r); err != nil {
			return nil, err
		}
		if s.op == parser.LOR {
			return r, nil
		}
		r.release()
	}
	for {
		r, err := s.second.next(ctx)
		if err != nil || r == nil {
			return nil, err
		}
		if s.filter(r); r.count() > 0 {
			return r, nil
		}
		r.release()
	}
}

func (s *setOperator) add(ctx context.Context, r *row) error {
	sig := s.sign.sign(r.labels)
	set := s.present[string(sig)]
	if set == nil {
		if err := s.sc.charge(ctx, entryBytes+int64(len(sig))+stepSetBytes(s.sc.grid.steps)); err != nil {
			return err
		}
		set = &stepSet{}
		s.present[string(sig)] = set
	}
	set.addAll(r.has, nil)
	return nil
}

// filter removes the samples of a row that are not in the result.
func (s *setOperator) filter(r *row) {
	set := s.present[string(s.sign.sign(r.labels))]
	wanted := s.op == parser.LAND
	for i, ok := range r.has {
		if ok && (set != nil && set.has(i)) != wanted {
			r.has[i] = false
		}
	}
}
