package headship

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/headlog"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// tailSize is how much of the shipped log is compared in each pass, in bytes.
const tailSize = 4 << 10

// maxFormer bounds how many generations are looked at to find the current one.
const maxFormer = 16

// generation is the log in the bucket that continues the log on disk.
type generation struct {
	source   string
	external labels.Labels
	id       ulid.ULID
	// announced says that the object with the labels exists.
	announced bool
	seq       uint64 // of the last piece
	wal, wbl  place
	// pieces may exist in the bucket, in their order.
	pieces []headlog.Piece

	// whole says that the samples of the newest checkpoint have to be shipped, because
	// segments before it never were.
	whole bool
	// checkpoint is the newest checkpoint that was looked at.
	checkpoint int
	// clean is the first piece of the last complete checkpoint, and cleanSegment its
	// number: it replaces earlier pieces with series of the segments up to that number.
	clean        uint64
	cleanSegment int
	// seriesBytes and checkpointBytes are the sizes of all pieces with series, and of
	// those of the last checkpoint.
	seriesBytes, checkpointBytes int64
}

func (g *generation) object(name string) string {
	return headlog.GenerationDir(g.source, g.id) + "/" + name
}

// place returns the place in the log of a kind.
func (g *generation) place(k headlog.Kind) *place {
	if k == headlog.KindWBL {
		return &g.wbl
	}
	return &g.wal
}

// add records a piece that is about to be uploaded, so that it is removed some day
// even if the upload seems to fail.
func (g *generation) add(p headlog.Piece) {
	if i := slices.IndexFunc(g.pieces, func(o headlog.Piece) bool { return o.Object == p.Object }); i >= 0 {
		g.pieces[i] = p
		return
	}
	g.pieces = append(g.pieces, p)
	if !p.Kind.HasSamples() {
		g.seriesBytes += p.Size
	}
}

// locate finds the place where shipping continues. It continues the current generation
// if the log on disk still is the one that was shipped, and otherwise one in the
// bucket of which that is true, or begins one.
func (s *Shipper) locate(ctx context.Context, external labels.Labels, wal, wbl *logDir, cov *coverage) error {
	s.leaveRecovered(ctx)
	if g := s.gen; g != nil {
		same, err := s.unchanged(g, wal)
		if err != nil {
			return err
		}
		if !same || !labels.Equal(g.external, external) {
			s.deps.Logger.Warn("log of prometheus is another one than before", "generation", g.id, "segment", g.wal.segment, "offset", g.wal.offset)
			s.gen = nil
			clear(s.retries)
		}
	}
	if s.gen == nil {
		if err := s.open(ctx, external, wal, wbl, cov); err != nil {
			return err
		}
	}
	g := s.gen
	if !g.whole && g.wal.segment < wal.first() {
		s.metrics.gaps.Inc()
		s.deps.Logger.Warn("prometheus deleted segments before they were shipped", "segment", g.wal.segment, "first", wal.first())
		g.whole = true
		delete(s.retries, headlog.KindWAL)
	}
	if !wbl.empty() && wbl.last() < g.wbl.segment {
		g.wbl = place{segment: wbl.first()}
	}
	return nil
}

// leaveRecovered leaves the current generation if another process has made blocks of it
// and removed it, because nothing was shipped for long. Its series are gone, so that
// later pieces would be of no use. If the bucket does not answer, the uploads that
// follow report it.
func (s *Shipper) leaveRecovered(ctx context.Context) {
	g := s.gen
	if g == nil || !g.announced {
		return
	}
	if _, err := s.deps.Bucket.Stat(ctx, g.object(headlog.InfoName)); errors.Is(err, bucket.ErrNotFound) {
		s.deps.Logger.Warn("head log was recovered by another process", "generation", g.id)
		s.gen = nil
		clear(s.retries)
	}
}

// unchanged says whether the bytes before the place in the write-ahead log are those
// that were shipped, as far as they still exist.
func (s *Shipper) unchanged(g *generation, wal *logDir) (bool, error) {
	if wal.last() < g.wal.segment {
		return g.whole, nil
	}
	segments := wal.from(g.wal.segment)
	if g.whole || segments[0].number != g.wal.segment {
		return true, nil // deleted, which is a gap
	}
	if segments[0].size < g.wal.offset {
		return false, nil
	}
	sum, err := s.checksum(segments[0].name, g.wal.tail, g.wal.offset)
	return sum == g.wal.tailSum, err
}

// checksum returns the checksum of a range of a file, or an error that is errChanged if
// the file or the range does not exist.
func (s *Shipper) checksum(name string, from, end int64) (uint32, error) {
	if from >= end {
		return 0, nil
	}
	f, err := s.openLog(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h := crc32.New(castagnoli())
	if n, err := io.Copy(h, io.NewSectionReader(f, from, end-from)); err != nil || n != end-from {
		return 0, errors.Join(fmt.Errorf("%w: read %s: %d of %d bytes", errChanged, name, n, end-from), err)
	}
	return h.Sum32(), nil
}

func (s *Shipper) openLog(name string) (vfs.File, error) {
	f, err := s.deps.FS.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", errChanged, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}

// placeAt returns the place at an offset of a segment.
func (s *Shipper) placeAt(seg segmentFile, offset int64) (place, error) {
	p := place{segment: seg.number, offset: offset, tail: max(0, offset-tailSize)}
	var err error
	p.tailSum, err = s.checksum(seg.name, p.tail, offset)
	return p, err
}

// open continues the newest generation in the bucket that was shipped from the log on
// disk, or begins one.
func (s *Shipper) open(ctx context.Context, external labels.Labels, wal, wbl *logDir, cov *coverage) error {
	source := headlog.Source(external)
	all, err := s.list(ctx, source)
	if err != nil {
		return err
	}
	s.former, s.formerAt = all, time.Now()
	for i := len(all) - 1; i >= 0 && i >= len(all)-maxFormer; i-- {
		g, err := s.resume(ctx, all[i], wal, wbl, cov)
		if err != nil {
			return err
		}
		if g != nil {
			g.external = external
			s.gen, s.former = g, slices.Delete(all, i, i+1)
			s.deps.Logger.Info("head log continued", "generation", g.id, "segment", g.wal.segment, "offset", g.wal.offset)
			return nil
		}
	}
	id, err := ulid.New(ulid.Now(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make name of head log: %w", err)
	}
	s.metrics.generations.Inc()
	s.gen = &generation{source: source, external: external, id: id, whole: true, checkpoint: -1}
	s.deps.Logger.Info("head log begun", "generation", id, "segment", wal.first())
	return nil
}

// list returns the generations of a source in the bucket.
func (s *Shipper) list(ctx context.Context, source string) ([]*headlog.Generation, error) {
	var l headlog.Listing
	dir := headlog.Dir + "/" + source + "/"
	err := s.deps.Bucket.List(ctx, dir, func(o bucket.Object) error {
		l.Add(o.Name, o.Size, o.LastModified)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list head logs in the bucket: %w", err)
	}
	return l.Generations(), nil
}

// upload writes one piece and checks that it arrived.
func (s *Shipper) upload(ctx context.Context, w *headlog.Writer, n headlog.Name, logSum uint32) error {
	g := s.gen
	if err := s.announce(ctx); err != nil {
		return err
	}
	b, err := w.Finish(n, logSum)
	if err != nil {
		return err
	}
	object := g.object(n.String())
	g.add(headlog.Piece{Name: n, Object: object, Size: int64(len(b))})
	if err := s.put(ctx, object, b); err != nil {
		return fmt.Errorf("upload piece of head log: %w", err)
	}
	s.metrics.pieces.Inc()
	s.metrics.shippedBytes.Add(float64(len(b)))
	return nil
}

// announce writes the object with the labels, before the first piece.
func (s *Shipper) announce(ctx context.Context) error {
	g := s.gen
	if g.announced {
		return nil
	}
	b, err := headlog.EncodeInfo(g.external, time.Now().UnixMilli())
	if err != nil {
		return err
	}
	if err := s.put(ctx, g.object(headlog.InfoName), b); err != nil {
		return fmt.Errorf("begin head log in the bucket: %w", err)
	}
	g.announced = true
	return nil
}

// put uploads an object and compares its size, because a proxy may acknowledge an
// upload that it dropped or cut.
func (s *Shipper) put(ctx context.Context, name string, b []byte) error {
	if err := s.deps.Bucket.Upload(ctx, name, bytes.NewReader(b), int64(len(b))); err != nil {
		return err
	}
	o, err := s.deps.Bucket.Stat(ctx, name)
	if err != nil {
		return fmt.Errorf("check %s after its upload: %w", name, err)
	}
	if o.Size >= 0 && o.Size != int64(len(b)) {
		return fmt.Errorf("%w: %s has %d bytes after an upload of %d", bucket.ErrLength, name, o.Size, len(b))
	}
	return nil
}
