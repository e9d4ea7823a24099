package headship

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hindsight-io/hindsight/pkg/headlog"
)

// shipLog ships the rest of a log up to the sizes of its listing.
func (s *Shipper) shipLog(ctx context.Context, kind headlog.Kind, dir *logDir, cov *coverage) error {
	p := s.gen.place(kind)
	for _, seg := range dir.from(p.segment) {
		if seg.number > p.segment {
			*p = place{segment: seg.number}
		}
		if seg.size <= p.offset {
			continue
		}
		if err := s.shipSegment(ctx, kind, seg, seg.number == dir.last(), cov); err != nil {
			return err
		}
	}
	return nil
}

// shipSegment ships the rest of a segment as one or more pieces. last says that
// Prometheus still appends to it: then a record that is not whole is shipped by a later
// pass. In another segment such a record is what a crash has left; Prometheus does not
// read beyond it either.
func (s *Shipper) shipSegment(ctx context.Context, kind headlog.Kind, seg segmentFile, last bool, cov *coverage) error {
	f, err := s.openLog(seg.name)
	if err != nil {
		return err
	}
	defer f.Close()
	p := s.gen.place(kind)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		from := p.offset
		b := s.batch()
		s.samples.Grow(int(min(seg.size-from, pieceSize+windowSize)))
		s.reader.reset(f, from, seg.size)
		var stop int64
		if r, ok := s.retries[kind]; ok && r.segment == seg.number && r.from == from {
			stop = r.end
		}
		end := b.fill(&s.reader, stop)
		if s.reader.end > from {
			n := headlog.Name{Segment: seg.number, From: from, End: s.reader.end}
			if err := s.ship(ctx, b, kind, n, cov); err != nil {
				s.retries[kind] = retry{segment: seg.number, from: from, end: s.reader.end}
				return err
			}
			delete(s.retries, kind)
			if *p, err = s.placeAt(seg, s.reader.end); err != nil {
				return err
			}
			s.metrics.logBytes.Add(float64(s.reader.end - from))
		}
		switch {
		case end == nil:
			continue
		case errors.Is(end, io.EOF), last && errors.Is(end, errPartial):
			return nil
		case last || !errors.Is(end, errDamaged) && !errors.Is(end, errPartial):
			return fmt.Errorf("ship %s: %w", seg.name, end)
		}
		s.reportDamage(seg, end)
		return nil
	}
}

// reportDamage counts and logs the rest of a segment that cannot be read, once.
func (s *Shipper) reportDamage(seg segmentFile, err error) {
	if s.skipped == seg.name {
		return
	}
	s.skipped = seg.name
	s.metrics.damaged.Inc()
	s.deps.Logger.Warn("rest of log segment not readable", "segment", seg.name, "offset", s.reader.end, "size", seg.size, "err", err)
}

// batch collects the records of two pieces, one with series and one with samples.
type batch struct {
	s       *Shipper
	times   headlog.Times
	records int64
}

// batch returns an empty batch in the memory of the last one.
func (s *Shipper) batch() *batch {
	s.samples.Reset()
	s.series.Reset()
	return &batch{s: s, times: headlog.NoTimes()}
}

func (b *batch) full() bool { return b.s.samples.Size()+b.s.series.Size() >= pieceSize }

// fill adds records until the batch is full or reading has reached the offset stop, which
// give nil, or until no record can be read.
func (b *batch) fill(r *segmentReader, stop int64) error {
	for !b.full() && (stop == 0 || r.end < stop) {
		codec, payload, err := r.next()
		if err != nil {
			return err
		}
		if err := b.add(codec, payload); err != nil {
			b.s.deps.Logger.Warn("record of log not readable", "offset", r.end, "err", err)
		}
	}
	return nil
}

// add adds one record of the log. An error says that the record is malformed; it is
// left out, and Prometheus could not read it either.
func (b *batch) add(codec headlog.Codec, payload []byte) error {
	b.records++
	if len(payload) == 0 {
		return nil
	}
	typ, known := peek(codec, payload)
	if known && classOf(typ) == classOther {
		return nil
	}
	rec, err := b.s.decoder.decode(codec, payload)
	if err != nil || len(rec) == 0 {
		return err
	}
	switch classOf(recordType(rec)) {
	case classSeries:
		// Many small records compress better together.
		return b.s.series.Add(headlog.CodecNone, rec)
	case classSamples:
		t := b.times
		if err := headlog.SampleTimes(rec, &t); err != nil {
			return err
		}
		b.times = t
		return b.s.samples.Add(codec, payload)
	}
	return nil
}

// ship uploads the pieces of a batch, the series first. n has the range. Samples that
// blocks in the bucket hold already are not uploaded.
func (s *Shipper) ship(ctx context.Context, b *batch, kind headlog.Kind, n headlog.Name, cov *coverage) error {
	seq := s.gen.seq
	if s.series.Records() > 0 {
		seq++
		series := n
		series.Seq, series.Kind = seq, headlog.KindSeries
		if kind == headlog.KindCarried {
			series.Kind = headlog.KindCheckpoint
		}
		if err := s.upload(ctx, s.series, series, s.reader.sum); err != nil {
			return err
		}
	}
	if s.samples.Records() > 0 && !b.times.Empty() {
		n.Kind, n.MinTime, n.MaxTime = kind, b.times.Min, b.times.Max
		if kind == headlog.KindWBL || !cov.holds(n) {
			seq++
			n.Seq = seq
			if err := s.upload(ctx, s.samples, n, s.reader.sum); err != nil {
				return err
			}
		}
	}
	s.gen.seq = seq
	return nil
}

// The series of a generation are shipped again, as those of a checkpoint, once all
// pieces with series together are checkpointGrowth times as large as those of the last
// checkpoint, and at least of the size minSeriesBytes.
const (
	checkpointGrowth = 4
	minSeriesBytes   = 4 << 20
)

// shipCheckpoint ships the newest checkpoint if its samples were never shipped, or if
// many series of the generation may be gone.
func (s *Shipper) shipCheckpoint(ctx context.Context, wal *logDir, cov *coverage) error {
	g := s.gen
	due := wal.checkpoint > g.checkpoint && g.seriesBytes > max(minSeriesBytes, checkpointGrowth*g.checkpointBytes)
	if !g.whole && !due {
		g.checkpoint = max(g.checkpoint, wal.checkpoint)
		return nil
	}
	first := min(max(wal.first(), wal.checkpoint+1), wal.last())
	if wal.checkpoint >= 0 {
		if err := s.shipCheckpointDir(ctx, wal, cov); err != nil {
			return err
		}
	}
	if g.whole {
		g.wal, g.whole = place{segment: first}, false
	}
	return nil
}

// shipCheckpointDir ships the records of the newest checkpoint. After an error it begins
// again with the same names.
func (s *Shipper) shipCheckpointDir(ctx context.Context, wal *logDir, cov *coverage) error {
	g := s.gen
	began, seriesBefore := g.seq, g.seriesBytes
	done := false
	defer func() {
		if !done {
			g.seq = began
		}
	}()
	dir, err := listLog(s.deps.FS, wal.checkpointDir)
	if err != nil {
		return err
	}
	if dir.empty() {
		return fmt.Errorf("%w: checkpoint %s", errChanged, wal.checkpointDir)
	}
	b, records := s.batch(), int64(0)
	flush := func() error {
		n := headlog.Name{Segment: wal.checkpoint, From: records, End: records + b.records}
		if b.records == 0 {
			return nil
		}
		if !g.whole {
			s.samples.Reset()
		}
		s.reader.sum = 0
		if err := s.ship(ctx, b, headlog.KindCarried, n, cov); err != nil {
			return err
		}
		records += b.records
		b = s.batch()
		return nil
	}
	for _, seg := range dir.segments {
		if err := s.eachBatch(ctx, seg, &b, flush); err != nil {
			return err
		}
	}
	if err := flush(); err != nil {
		return err
	}
	done = true
	g.checkpoint, g.clean, g.cleanSegment = wal.checkpoint, began+1, wal.checkpoint
	g.checkpointBytes = g.seriesBytes - seriesBefore
	return nil
}

// eachBatch fills batches from a segment of a checkpoint and calls flush for each full
// one.
func (s *Shipper) eachBatch(ctx context.Context, seg segmentFile, b **batch, flush func() error) error {
	f, err := s.openLog(seg.name)
	if err != nil {
		return err
	}
	defer f.Close()
	for offset := int64(0); ; offset = s.reader.end {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.reader.reset(f, offset, seg.size)
		switch err := (*b).fill(&s.reader, 0); {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errPartial):
			return fmt.Errorf("%w: %s", errChanged, seg.name)
		case errors.Is(err, errDamaged):
			s.reportDamage(seg, err)
			return nil
		case err != nil:
			return err
		}
		end := s.reader.end
		if err := flush(); err != nil {
			return err
		}
		s.reader.end = end
	}
}
