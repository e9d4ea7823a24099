package blockmerge

import (
	"github.com/hindsight-io/hindsight/pkg/aggr"
	"github.com/hindsight-io/hindsight/pkg/samplecheck"
)

// checkSources decodes the chunks of a series in the sources whose chunks nobody has checked
// yet, if the verification wants that, and blames the source of a damaged one. Without this
// check a merge copies the chunk into a larger block, which can then not be downsampled. A
// conversion decodes all chunks itself.
func (w *worker) checkSources(s *unitSeries) error {
	if !w.decodes || w.convert != nil {
		return nil
	}
	for _, p := range s.parts {
		if p.source.Meta.Checked() {
			continue
		}
		if err := w.checkPart(p); err != nil {
			return err
		}
	}
	return nil
}

// damaged returns an error that blames the source of the first damaged chunk of a series,
// nil if all are sound.
func (w *worker) damaged(s *unitSeries) error {
	if s == nil {
		return nil
	}
	for _, p := range s.parts {
		if err := w.checkPart(p); err != nil {
			return err
		}
	}
	return nil
}

// checkPart decodes the chunks that one source has of a series.
func (w *worker) checkPart(p part) error {
	for i := range p.chunks {
		c := &p.chunks[i]
		if err := w.samples.Chunk(c.encoding, c.data(), c.mint, c.maxt); err != nil {
			return p.source.corrupt(samplecheck.Reason(err), "series %s, chunk %d: %w", w.describe(p.labels), i+1, err)
		}
	}
	return nil
}

// empty says that a chunk has no samples. Such a chunk does not come into the result.
func (c *chunk) empty() bool { return c.samples == 0 && c.encoding != aggr.Encoding }
