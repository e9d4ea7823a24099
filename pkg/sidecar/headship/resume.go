package headship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/headlog"
)

// resume returns the state of a generation in the bucket, or nil if it is not of the log
// on disk. A generation with pieces that are older than all blocks of the directory is
// not continued: recovery has to compare them with the blocks in the bucket.
func (s *Shipper) resume(ctx context.Context, from *headlog.Generation, wal, wbl *logDir, cov *coverage) (*generation, error) {
	broken, err := s.cutBroken(ctx, from)
	last := lastOf(from.Pieces, headlog.KindWAL)
	if err != nil || last == nil || !from.HasInfo || from.Recovered {
		return nil, err
	}
	if same, err := s.same(ctx, last, wal); err != nil || !same {
		return nil, err
	}
	// Another Prometheus with the same labels may have samples with the same references,
	// times and values, but not the same series too.
	if p := lastOf(from.Pieces, headlog.KindSeries); p != nil && len(wal.from(p.Segment)) > 0 && wal.from(p.Segment)[0].number == p.Segment {
		if same, err := s.same(ctx, p, wal); err != nil || !same {
			return nil, err
		}
	}
	for _, p := range from.Pieces {
		if p.Kind.HasSamples() && p.Kind != headlog.KindWBL && cov.before(p.Name) {
			return nil, nil
		}
	}
	for _, p := range broken {
		s.deps.Logger.Warn("last piece of head log not whole; removing it", "object", p.Object)
		if err := s.deps.Bucket.Delete(ctx, p.Object); err != nil {
			return nil, fmt.Errorf("remove last piece of head log: %w", err)
		}
	}
	end := from.Pieces[len(from.Pieces)-1]
	g := &generation{
		source: from.Source, id: from.ID, announced: true,
		seq: end.Seq, checkpoint: -1, pieces: from.Pieces,
		// The upload of a checkpoint at the end may have been interrupted.
		whole: end.Kind == headlog.KindCheckpoint || end.Kind == headlog.KindCarried,
	}
	for _, p := range from.Pieces {
		if p.Kind.HasSamples() {
			continue
		}
		g.seriesBytes += p.Size
		if p.Kind != headlog.KindCheckpoint || g.whole {
			continue
		}
		if p.Segment != g.checkpoint {
			g.checkpoint, g.clean, g.cleanSegment, g.checkpointBytes = p.Segment, p.Seq, p.Segment, 0
		}
		g.checkpointBytes += p.Size
	}
	if g.wal, err = s.placeAt(wal.from(last.Segment)[0], last.End); err != nil {
		return nil, err
	}
	if last := lastOf(from.Pieces, headlog.KindWBL); last != nil {
		if same, err := s.same(ctx, last, wbl); err != nil {
			return nil, err
		} else if same {
			g.wbl = place{segment: last.Segment, offset: last.End}
		}
	}
	return g, nil
}

// same says whether a piece was made of the log on disk.
func (s *Shipper) same(ctx context.Context, p *headlog.Piece, dir *logDir) (bool, error) {
	segments := dir.from(p.Segment)
	if len(segments) == 0 || segments[0].number != p.Segment || segments[0].size < p.End {
		return false, nil
	}
	sum, err := s.sumOf(segments[0].name, p.From, p.End)
	if err != nil {
		return false, err
	}
	rc, err := s.deps.Bucket.GetRange(ctx, p.Object, 0, headlog.HeaderSize)
	if errors.Is(err, bucket.ErrNotFound) || errors.Is(err, bucket.ErrRange) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read piece of head log: %w", err)
	}
	defer rc.Close()
	head, err := io.ReadAll(io.LimitReader(rc, headlog.HeaderSize))
	if err != nil {
		return false, fmt.Errorf("read piece of head log: %w", err)
	}
	name, want, err := headlog.DecodeHeader(head)
	return err == nil && name == p.Name && sum == want, nil
}

// sumOf returns the checksum that a piece has which was made of a range of a segment. It
// is 0 if the range does not hold whole records.
func (s *Shipper) sumOf(name string, from, end int64) (uint32, error) {
	f, err := s.openLog(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	s.reader.reset(f, from, end)
	for {
		switch _, _, err := s.reader.next(); {
		case err == nil:
		case errors.Is(err, io.EOF) && s.reader.end == end:
			return s.reader.sum, nil
		case errors.Is(err, io.EOF), errors.Is(err, errPartial), errors.Is(err, errDamaged):
			return 0, nil
		default:
			return 0, err
		}
	}
}

// cutBroken takes pieces that are not whole from the end of a generation, and returns
// them. They are there if the sidecar ended after a bad upload, before it did it again.
func (s *Shipper) cutBroken(ctx context.Context, g *headlog.Generation) (broken []headlog.Piece, err error) {
	for len(g.Pieces) > 0 && len(broken) < 4 {
		last := g.Pieces[len(g.Pieces)-1]
		whole, err := s.whole(ctx, &last)
		if whole || err != nil {
			return broken, err
		}
		broken = append(broken, last)
		g.Pieces = g.Pieces[:len(g.Pieces)-1]
	}
	return broken, nil
}

// whole reads a piece to its end.
func (s *Shipper) whole(ctx context.Context, p *headlog.Piece) (bool, error) {
	rc, err := s.deps.Bucket.Get(ctx, p.Object)
	if errors.Is(err, bucket.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read last piece of head log: %w", err)
	}
	defer rc.Close()
	r, err := headlog.NewReader(rc, p.Name)
	if err == nil {
		defer r.Close()
		for r.Next() {
		}
		err = r.Err()
	}
	if err == nil || errors.Is(err, headlog.ErrCorrupt) {
		return err == nil, nil
	}
	return false, fmt.Errorf("read last piece of head log: %w", err)
}

// lastOf returns the last piece of a kind.
func lastOf(pieces []headlog.Piece, k headlog.Kind) *headlog.Piece {
	for i := range slices.Backward(pieces) {
		if pieces[i].Kind == k {
			return &pieces[i]
		}
	}
	return nil
}
