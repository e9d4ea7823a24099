package query

import (
	"slices"

	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/query/eval"
)

// decode replaces the content of dst by the samples of the series, the same that
// Iterator gives. Different series may be decoded at the same time.
func (s *series) decode(dst *eval.Samples) error {
	dst.T, dst.V, dst.H, dst.Rising = dst.T[:0], dst.V[:0], nil, false
	out := (*dedup.Samples)(dst)
	switch {
	case s.view.lookback > 0:
		return out.Append(aliveSeries{s}.Iterator(nil), s.view.mint)
	case len(s.sources) > 1:
		d, _ := s.view.decoders.Get().(*decoder)
		if d == nil {
			d = &decoder{}
		}
		o := s.merging()
		err := d.merge.Decode(s.view.dedup, s.replicas(o.Bounds, &d.memory), o, s.view.mint, out)
		d.memory.release()
		s.view.decoders.Put(d)
		return err
	case s.plain(s.sources[0].chunks):
		return out.AppendChunks(floatChunks(s.sources[0].chunks), s.view.bounds())
	}
	return out.Append(s.Iterator(nil), s.view.mint)
}

// decoder decodes one series after the other.
type decoder struct {
	merge  dedup.Decoder
	memory replicaMemory
}

// replicaMemory holds the replicas of one series. It is used again for the next one.
type replicaMemory struct {
	replicas []dedup.Replica
	chunks   []floatChunks
}

// take returns n replicas without content, with their chunks.
func (m *replicaMemory) take(n int) ([]dedup.Replica, []floatChunks) {
	m.replicas, m.chunks = slices.Grow(m.replicas[:0], n)[:n], slices.Grow(m.chunks[:0], n)[:n]
	return m.replicas, m.chunks
}

// release forgets the replicas, so that the memory of their chunks is free.
func (m *replicaMemory) release() {
	clear(m.replicas)
	clear(m.chunks)
}
