package query

import (
	"github.com/hindsight-io/hindsight/pkg/dedup"
	"github.com/hindsight-io/hindsight/pkg/query/eval"
)

// decode replaces the content of dst by the samples of the series, the same that
// Iterator gives. Different series may be decoded at the same time.
func (s *series) decode(dst *eval.Samples) error {
	dst.T, dst.V, dst.H = dst.T[:0], dst.V[:0], nil
	out := (*dedup.Samples)(dst)
	switch {
	case s.view.lookback > 0:
		return out.Append(aliveSeries{s}.Iterator(nil), s.view.mint)
	case len(s.sources) > 1:
		d, _ := s.view.decoders.Get().(*dedup.Decoder)
		if d == nil {
			d = &dedup.Decoder{}
		}
		o := s.view.merging()
		err := d.Decode(s.view.dedup, s.replicas(o.Bounds), o, s.view.mint, out)
		s.view.decoders.Put(d)
		return err
	case s.plain(s.sources[0].chunks):
		return out.AppendChunks(xorChunks(s.sources[0].chunks), s.view.bounds())
	}
	return out.Append(s.Iterator(nil), s.view.mint)
}
