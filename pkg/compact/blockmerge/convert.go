package blockmerge

import (
	"runtime/debug"

	"github.com/hindsight-io/hindsight/pkg/reason"
)

// convertSeries makes the chunks of a series by Config.Convert. Its error or panic is
// damage of the source: decoders do not check bytes that have a checksum.
func (w *worker) convertSeries(u *unit, s *unitSeries) (err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if _, fault := p.(interface{ Addr() uintptr }); fault {
			panic(p) // of the local index, which an error looks its labels up in
		}
		err = w.source.corrupt(reason.BlockIndexCorrupt, "decoder failed: %v at %.2000s", p, debug.Stack())
	}()
	if err := w.load(u, s); err != nil {
		return err
	}
	out, err := w.convert(w.metas)
	if err != nil {
		return w.source.corrupt(reason.BlockChunkCorrupt, "series %s: %w", w.describe(s.labels), err)
	}
	for _, m := range out {
		u.encode(m)
	}
	return w.unload()
}
