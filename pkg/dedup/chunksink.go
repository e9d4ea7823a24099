package dedup

import (
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/xorcolumn"
)

// samplesPerChunk is the number of samples of a newly encoded chunk.
const samplesPerChunk = 120

// chunkSink encodes chosen float samples into chunks.
type chunkSink struct {
	enc        xorcolumn.Encoder
	arena      []byte
	open       bool
	mint, maxt int64
	out        []chunks.Meta
	samples    uint64
}

// reset starts over. The bytes of new chunks are appended to arena.
func (s *chunkSink) reset(arena []byte) {
	s.arena, s.open, s.out, s.samples = arena, false, s.out[:0], 0
}

// take adds the samples of a run of the chunk c. It passes a whole chunk on without
// encoding it, unless a few samples wait to be joined with it.
func (s *chunkSink) take(c *chunks.Meta, r *run) {
	n := len(r.t)
	s.samples += uint64(n)
	limit := samplesPerChunk
	// A damaged chunk has samples out of order, which its columns lack.
	whole := r.whole && n == c.Chunk.NumSamples()
	if whole {
		if !s.open || s.enc.Len() >= samplesPerChunk/2 {
			s.flush()
			s.out = append(s.out, *c)
			return
		}
		limit = max(limit, min(s.enc.Len()+n, 2*samplesPerChunk))
	}
	for i := range r.t {
		s.add(r.t[i], r.v[i], limit)
	}
	if whole {
		s.flush()
	}
}

// add encodes one sample. A chunk has at most limit samples.
func (s *chunkSink) add(t int64, v float64, limit int) {
	if s.open && s.enc.Len() >= limit {
		s.flush()
	}
	if !s.open {
		s.enc.Reset(s.arena)
		s.open, s.mint = true, t
	}
	s.enc.Append(t, v)
	s.maxt = t
}

// flush ends the chunk that is being encoded.
func (s *chunkSink) flush() {
	if !s.open {
		return
	}
	start := len(s.arena)
	s.arena = s.enc.Finish()
	chk := chunkenc.NewXORChunk()
	chk.Reset(s.arena[start:len(s.arena):len(s.arena)])
	s.out = append(s.out, chunks.Meta{MinTime: s.mint, MaxTime: s.maxt, Chunk: chk})
	s.open = false
}
