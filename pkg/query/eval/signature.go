package eval

import (
	"slices"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// metadataLabels are those that an operation which changes the meaning of a value
// removes.
func metadataLabels() []string {
	return []string{model.MetricNameLabel, model.MetricTypeLabel, model.MetricUnitLabel}
}

// signer gives the part of labels by which series of two operands match. It belongs
// to one goroutine.
type signer struct {
	on    bool
	names []string // sorted
	buf   []byte
}

func newSigner(m *parser.VectorMatching) signer {
	names := slices.Clone(m.MatchingLabels)
	if !m.On {
		names = append(names, metadataLabels()...)
	}
	slices.Sort(names)
	return signer{on: m.On, names: slices.Compact(names)}
}

// sign returns bytes that are equal for labels that match; valid until the next call.
func (s *signer) sign(ls labels.Labels) []byte {
	if s.on {
		s.buf = ls.BytesWithLabels(s.buf, s.names...)
	} else {
		s.buf = ls.BytesWithoutLabels(s.buf, s.names...)
	}
	return s.buf
}

// labels returns the labels that sign looks at.
func (s *signer) labels(ls labels.Labels) labels.Labels {
	return ls.MatchLabels(s.on, s.names...)
}

// resultLabels gives the labels of results of a binary operation.
type resultLabels struct {
	matching *parser.VectorMatching
	// renames says that the result has no metric name.
	renames bool
	b       *labels.Builder
}

// of returns the labels for a pair: many is on the side that may have several
// series for a signature, or the left one.
func (r *resultLabels) of(many, one labels.Labels) labels.Labels {
	if r.b == nil {
		r.b = labels.NewBuilder(many)
	} else {
		r.b.Reset(many)
	}
	if r.renames {
		r.b.Del(metadataLabels()...)
	}
	if r.matching.Card == parser.CardOneToOne {
		if r.matching.On {
			r.b.Keep(r.matching.MatchingLabels...)
		} else {
			r.b.Del(r.matching.MatchingLabels...)
		}
	}
	for _, name := range r.matching.Include {
		r.b.Set(name, one.Get(name))
	}
	return r.b.Labels()
}
