package compact

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/hindsight-io/hindsight/pkg/aggr"
)

// The penalty algorithm for two replicas of floats, chunk by chunk. Its result
// is that of dedup.Penalty, sample by sample, but a replica that is not needed
// is not decoded, and a chunk of which every sample is taken is passed on as it
// is.

// firstPenalty is what the replica that is not chosen first waits for, in
// milliseconds.
const firstPenalty = 5000

// floatReplica is one of the two inputs, standing on a sample.
type floatReplica struct {
	list []chunks.Meta
	// chunk is the number of the decoded chunk, -1 before the first.
	chunk int
	cols  aggr.Columns
	pos   int
	// from is the first sample of the chunk that belongs to the current run.
	from int
}

func (r *floatReplica) reset(list []chunks.Meta) {
	r.list, r.chunk, r.pos, r.from = list, -1, 0, 0
	r.cols.Reset()
}

func (r *floatReplica) time() int64 { return r.cols.T[r.pos] }

// load decodes the next chunk that has samples, and says whether there is one.
func (r *floatReplica) load() (bool, error) {
	for r.chunk+1 < len(r.list) {
		r.chunk++
		r.pos, r.from = 0, 0
		r.cols.Reset()
		if err := r.cols.AppendXOR(r.list[r.chunk].Chunk.Bytes()); err != nil {
			return false, err
		}
		if r.cols.Len() > 0 {
			return true, nil
		}
	}
	return false, nil
}

// seek moves to the first sample at t or later and says whether there is one.
func (r *floatReplica) seek(t int64) (bool, error) {
	for {
		if n := r.cols.Len(); n > 0 && r.cols.T[n-1] >= t {
			i, _ := slices.BinarySearch(r.cols.T[r.pos:], t)
			r.pos += i
			return true, nil
		}
		// Chunks that end before are not even decoded.
		for r.chunk+1 < len(r.list) && r.list[r.chunk+1].MaxTime < t {
			r.chunk++
			r.cols.Reset()
		}
		ok, err := r.load()
		if !ok || err != nil {
			return false, err
		}
	}
}

// pairMerger merges two replicas. Memory is kept for the next series.
type pairMerger struct {
	replica [2]floatReplica
	// cur is the replica in use; what the other one has before target is passed
	// over. It only grows, as passing over cannot be undone.
	cur    int
	lastT  int64
	target int64
	ended  bool // the other replica has no more samples
	sink   *floatSink
}

// run merges a and b, which have at least one chunk each. ok is false when the
// input is such that only the general way is right; the sink then holds
// nothing of use.
func (p *pairMerger) run(a, b []chunks.Meta, sink *floatSink) (ok bool, err error) {
	p.replica[0].reset(a)
	p.replica[1].reset(b)
	p.sink, p.ended = sink, false
	for i := range p.replica {
		if ok, err := p.replica[i].load(); !ok || err != nil {
			return false, err
		}
	}
	if mayBeCopies(p.replica[0].cols.T, b) || mayBeCopies(p.replica[1].cols.T, a) {
		return false, nil
	}
	p.cur = 0
	if p.replica[1].time() < p.replica[0].time() {
		p.cur = 1
	}
	p.lastT = p.replica[p.cur].time()
	p.target = p.lastT + 1 + firstPenalty
	for {
		more, sound, err := p.step()
		if err != nil || !sound {
			return false, err
		}
		if !more {
			return true, nil
		}
	}
}

// mayBeCopies says whether a chunk of the other replica begins or ends at
// exactly the time of a sample: what two servers do by chance only, and copies
// of one stream nearly always.
func mayBeCopies(ts []int64, other []chunks.Meta) bool {
	for _, c := range other {
		if c.MinTime > ts[len(ts)-1] {
			break
		}
		for _, t := range []int64{c.MinTime, c.MaxTime} {
			if _, equal := slices.BinarySearch(ts, t); equal {
				return true
			}
		}
	}
	return false
}

// step uses the current replica up to the end of its chunk or to where the
// other one may have an earlier sample. sound is false when times do not
// ascend.
func (p *pairMerger) step() (more, sound bool, err error) {
	r := &p.replica[p.cur]
	ts := r.cols.T
	// On a tie the first replica wins.
	slack := int64(1 - p.cur)
	i, lastT, target := r.pos+1, p.lastT, p.target
	for i < len(ts) {
		t := ts[i]
		if t <= lastT {
			return false, false, nil
		}
		if t >= target+slack && !p.ended {
			break
		}
		target = max(target, t+1+2*(t-lastT))
		lastT = t
		i++
	}
	p.lastT, p.target = lastT, target
	if i < len(ts) {
		r.pos = i
		return true, true, p.compare(r, i)
	}
	p.sink.take(&r.list[r.chunk], &r.cols, r.from, i)
	ok, err := r.load()
	if err != nil {
		return false, false, err
	}
	if !ok {
		return p.finish()
	}
	t := r.time()
	if t <= p.lastT {
		return false, false, nil
	}
	if t >= p.target+slack && !p.ended {
		return true, true, p.compare(r, 0)
	}
	p.use(t)
	return true, true, nil
}

// use goes on with the sample at t of the current replica.
func (p *pairMerger) use(t int64) {
	p.target = max(p.target, t+1+2*(t-p.lastT))
	p.lastT = t
}

// compare chooses between the sample of the current replica at position i,
// where it stands, and the other replica.
func (p *pairMerger) compare(r *floatReplica, i int) error {
	o := &p.replica[1-p.cur]
	t := r.time()
	ok, err := o.seek(p.target)
	if err != nil {
		return err
	}
	if !ok {
		p.ended = true
	}
	if !ok || t < o.time() || t == o.time() && p.cur == 0 {
		p.use(t)
		return nil
	}
	p.sink.take(&r.list[r.chunk], &r.cols, r.from, i)
	r.from = i // should it be used again; seek moves it on
	p.cur = 1 - p.cur
	o.from = o.pos
	p.target = math.MinInt64
	p.use(o.time())
	return nil
}

// finish takes what the other replica has after the end of the current one.
func (p *pairMerger) finish() (more, sound bool, err error) {
	o := &p.replica[1-p.cur]
	if p.ended {
		return false, true, nil
	}
	ok, err := o.seek(p.target)
	if err != nil || !ok {
		return false, err == nil, err
	}
	p.cur = 1 - p.cur
	p.ended = true
	o.from = o.pos
	p.lastT = o.time()
	return true, true, nil
}

// floatSink collects the samples that were chosen into chunks.
type floatSink struct {
	enc        aggr.XOREncoder
	arena      []byte
	open       bool
	mint, maxt int64
	out        []chunks.Meta
	samples    uint64
}

func (s *floatSink) reset(arena []byte) {
	s.arena, s.open, s.out, s.samples = arena, false, s.out[:0], 0
}

// take takes the samples from up to, excluding, to of a decoded chunk. A whole
// chunk is passed on as it is, unless a few samples wait to be joined with it.
func (s *floatSink) take(c *chunks.Meta, cols *aggr.Columns, from, to int) {
	if from >= to {
		return
	}
	s.samples += uint64(to - from)
	limit := samplesPerChunk
	whole := from == 0 && to == cols.Len()
	if whole {
		if !s.open || s.enc.Len() >= samplesPerChunk/2 {
			s.flush()
			s.out = append(s.out, *c)
			return
		}
		limit = max(limit, min(s.enc.Len()+to, 2*samplesPerChunk))
	}
	for i := from; i < to; i++ {
		s.add(cols.T[i], cols.V[i], limit)
	}
	if whole {
		s.flush()
	}
}

// add encodes one sample; a chunk has at most limit.
func (s *floatSink) add(t int64, v float64, limit int) {
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
func (s *floatSink) flush() {
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
