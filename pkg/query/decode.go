package query

import (
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/hindsight-io/hindsight/pkg/query/eval"
)

// decode replaces the content of dst by the samples of the series, the same that
// Iterator gives. Different series may be decoded at the same time.
func (s *series) decode(dst *eval.Samples) error {
	dst.T, dst.V, dst.H = dst.T[:0], dst.V[:0], nil
	var it chunkenc.Iterator
	if s.view.lookback > 0 {
		it = aliveSeries{s}.Iterator(nil)
	} else {
		it = s.Iterator(nil)
	}
	return drain(it, dst)
}

// drain appends the samples of an iterator to dst.
func drain(it chunkenc.Iterator, dst *eval.Samples) error {
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		if typ == chunkenc.ValFloat {
			t, v := it.At()
			dst.T, dst.V = append(dst.T, t), append(dst.V, v)
			if dst.H != nil {
				dst.H = append(dst.H, nil)
			}
			continue
		}
		if dst.H == nil {
			dst.H = make([]*histogram.FloatHistogram, len(dst.T), max(cap(dst.T), 16))
		}
		t, h := it.AtFloatHistogram(nil)
		dst.T, dst.V, dst.H = append(dst.T, t), append(dst.V, 0), append(dst.H, h)
	}
	return it.Err()
}
