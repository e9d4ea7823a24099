package bucketblock

import (
	"fmt"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/zerocopy"
)

// setBuilder makes label sets of symbols. Neighbours begin with the same labels, so it
// encodes of each set only what differs from the set before. The sets share memory that
// is never used again: they stay valid for ever.
type setBuilder struct {
	// symbol looks up a symbol, external are the labels to add, sorted; no series has
	// one of their names.
	symbol   func(uint32) (string, error)
	external []labels.Label
	// built are the symbols of the last set, encoded the set, and ends where the
	// encoding of each pair of symbols ends.
	built   []uint32
	encoded []byte
	ends    []pairEnd
	// memory is what is left for the next sets, and step how much was taken last.
	memory []byte
	step   int
}

// pairEnd is the state of the encoding behind a pair of symbols: its length, and how
// many external labels are in it.
type pairEnd struct{ length, external int }

// Sizes of the memory for label sets: the first is small for queries of few series.
const (
	firstSetBytes = 1 << 10
	mostSetBytes  = 32 << 10
)

// make returns the set of the pairs of symbols, which are sorted by name, with the
// external labels.
func (s *setBuilder) make(syms []uint32) (labels.Labels, error) {
	common, _ := compareSymbols(s.built, syms)
	done := pairEnd{}
	if common > 0 {
		done = s.ends[common-1]
	}
	s.ends = s.ends[:common]
	b := s.encoded[:done.length]
	ext := s.external[done.external:]
	s.built = s.built[:2*common]
	for i := 2 * common; i+1 < len(syms); i += 2 {
		name, err := s.text(syms[i])
		if err != nil {
			return labels.EmptyLabels(), err
		}
		value, err := s.text(syms[i+1])
		if err != nil {
			return labels.EmptyLabels(), err
		}
		if name == "" {
			return labels.EmptyLabels(), fmt.Errorf("%w: the value %.100q is of a label without a name", errDamaged, value)
		}
		for len(ext) > 0 && ext[0].Name < name {
			b = appendLabel(b, ext[0].Name, ext[0].Value)
			ext = ext[1:]
			done.external++
		}
		b = appendLabel(b, name, value)
		done.length = len(b)
		s.ends = append(s.ends, done)
		s.built = append(s.built, syms[i], syms[i+1])
		s.encoded = b
	}
	for _, l := range ext {
		b = appendLabel(b, l.Name, l.Value)
	}
	s.encoded = b
	return s.keep(b), nil
}

// text looks up a symbol that fits into a label set.
func (s *setBuilder) text(n uint32) (string, error) {
	text, err := s.symbol(n)
	if err == nil && len(text) > zerocopy.MaxPart {
		err = fmt.Errorf("%w: symbol %d has %d bytes", errDamaged, n, len(text))
	}
	return text, err
}

func appendLabel(b []byte, name, value string) []byte {
	return zerocopy.AppendPart(zerocopy.AppendPart(b, zerocopy.Bytes(name)), zerocopy.Bytes(value))
}

// keep copies an encoded set into memory of its own, at an address at which comparing
// label sets is fast.
func (s *setBuilder) keep(set []byte) labels.Labels {
	n := len(set)
	if n == 0 {
		return labels.EmptyLabels()
	}
	aligned := (n + 7) &^ 7
	if len(s.memory) < aligned {
		s.step = max(min(2*s.step, mostSetBytes), firstSetBytes)
		s.memory = make([]byte, max(s.step, aligned))
	}
	out := s.memory[:n:n]
	s.memory = s.memory[aligned:]
	copy(out, set)
	return zerocopy.Labels(out)
}
