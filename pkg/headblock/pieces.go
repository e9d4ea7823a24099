package headblock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/prometheus/prometheus/tsdb/tombstones"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/headlog"
	"github.com/hindsight-io/hindsight/pkg/limit"
)

// fetchConcurrency bounds parallel requests for pieces.
const fetchConcurrency = 4

// PiecesConfig says which pieces of a generation FetchPieces takes and where it puts them.
type PiecesConfig struct {
	// Dir is an empty directory for the pieces.
	Dir string
	// MaxBytes bounds the bytes of all pieces, with MaxBytesFlag for the error; 0
	// means no limit.
	MaxBytes     int64
	MaxBytesFlag string
	// Covered has the times whose samples of the ordinary log are in blocks: pieces
	// without another time are left out. Both ends are inclusive.
	Covered []tombstones.Interval
}

// Pieces is the head in one generation of a bucket, as files. It is a Source.
type Pieces struct {
	dir    string
	pieces []headlog.Piece
	size   int64
}

// FetchPieces downloads the pieces of a generation. The error is bucket.ErrNotFound
// when a piece was removed since the listing.
func FetchPieces(ctx context.Context, bkt bucket.Reader, g *headlog.Generation, cfg PiecesConfig) (*Pieces, error) {
	p := &Pieces{dir: cfg.Dir}
	for _, piece := range g.Pieces {
		if (piece.Kind == headlog.KindWAL || piece.Kind == headlog.KindCarried) && within(piece.Name, cfg.Covered) {
			continue
		}
		p.pieces = append(p.pieces, piece)
	}
	if err := p.checkSize(ctx, bkt, g, cfg); err != nil {
		return nil, err
	}
	size, err := p.each(ctx, func(ctx context.Context, piece headlog.Piece) (int64, error) {
		return fetch(ctx, bkt, piece.Object, p.path(piece))
	})
	if err != nil {
		return nil, err
	}
	p.size = size
	return p, nil
}

// checkSize returns an error if the pieces have more bytes than cfg.MaxBytes. It asks for
// sizes that the listing does not have.
func (p *Pieces) checkSize(ctx context.Context, bkt bucket.Reader, g *headlog.Generation, cfg PiecesConfig) error {
	if cfg.MaxBytes <= 0 {
		return nil
	}
	needed, err := p.each(ctx, func(ctx context.Context, piece headlog.Piece) (int64, error) {
		if piece.Size >= 0 {
			return piece.Size, nil
		}
		o, err := bkt.Stat(ctx, piece.Object)
		if err != nil {
			return 0, fmt.Errorf("ask for the size of %s: %w", piece.Object, err)
		}
		return max(o.Size, 0), nil
	})
	if err == nil && needed > cfg.MaxBytes {
		err = &limit.Error{What: "bytes of disk", Flag: cfg.MaxBytesFlag, Max: cfg.MaxBytes, Needed: needed, Detail: g.Dir()}
	}
	return err
}

// each calls f with all pieces, some at a time, and returns the sum of the results.
func (p *Pieces) each(ctx context.Context, f func(context.Context, headlog.Piece) (int64, error)) (int64, error) {
	var sum atomic.Int64
	eg, gctx := errgroup.WithContext(ctx)
	eg.SetLimit(fetchConcurrency)
	for _, piece := range p.pieces {
		eg.Go(func() error {
			n, err := f(gctx, piece)
			sum.Add(n)
			return err
		})
	}
	err := eg.Wait()
	return sum.Load(), err
}

// within reports whether all times of a piece are in one of the intervals.
func within(n headlog.Name, ivs []tombstones.Interval) bool {
	for _, iv := range ivs {
		if iv.Mint <= n.MinTime && n.MaxTime <= iv.Maxt {
			return true
		}
	}
	return false
}

func (p *Pieces) path(piece headlog.Piece) string { return filepath.Join(p.dir, piece.Name.String()) }

// fetch downloads one object into a file.
func fetch(ctx context.Context, bkt bucket.Reader, object, path string) (n int64, err error) {
	r, err := bkt.Get(ctx, object)
	if err != nil {
		return 0, fmt.Errorf("download %s: %w", object, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	f, err := os.Create(path)
	if err != nil {
		return 0, fmt.Errorf("download %s: %w", object, err)
	}
	if n, err = io.Copy(f, r); err != nil {
		err = fmt.Errorf("download %s: %w", object, err)
	}
	return n, errors.Join(err, f.Close())
}

// Size implements Source.
func (p *Pieces) Size() int64 { return p.size }

// Records implements Source. Behind a damaged record it goes on with the next piece.
func (p *Pieces) Records(ctx context.Context, f func(l Log, rec []byte) error) (Loss, error) {
	var loss Loss
	for _, piece := range p.pieces {
		if ctx.Err() != nil {
			return loss, ctx.Err()
		}
		bad, err := p.read(piece, f)
		if err != nil {
			return loss, err
		}
		if bad != nil {
			loss.note(max(piece.Size, 0), "%s: %v", piece.Object, bad)
		}
	}
	return loss, nil
}

// read reads one piece. bad says why it could not be read to its end.
func (p *Pieces) read(piece headlog.Piece, f func(l Log, rec []byte) error) (bad, err error) {
	file, err := os.Open(p.path(piece))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	l := WALLog
	if piece.Kind == headlog.KindWBL {
		l = WBLLog
	}
	r, err := headlog.NewReader(bufio.NewReaderSize(file, 64<<10), piece.Name)
	if errors.Is(err, headlog.ErrCorrupt) {
		return err, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	for r.Next() {
		if err := f(l, r.Record()); err != nil {
			return nil, err
		}
	}
	if err := r.Err(); err != nil && !errors.Is(err, headlog.ErrCorrupt) {
		return nil, fmt.Errorf("read %s: %w", file.Name(), err)
	}
	return r.Err(), nil
}
