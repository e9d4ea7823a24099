package block

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// Publication uploads a block file by file while the block is being made, so that no
// more than a few of its files are on the local disk. The block becomes visible with
// the call of Finish. The methods are called by one goroutine.
type Publication struct {
	ctx   context.Context
	stop  context.CancelFunc
	b     bucket.Bucket
	dir   string
	id    ulid.ULID
	cfg   UploadConfig
	g     *errgroup.Group
	slots chan struct{}
	files []*File // in the order of their numbers
}

// Publish begins the publication of the block in the local directory dir under an id.
// No more than cfg.Concurrency files are uploaded at a time. The caller ends it with
// Finish, or with Abandon after a failure.
func Publish(ctx context.Context, b bucket.Bucket, dir string, id ulid.ULID, cfg UploadConfig) *Publication {
	sctx, stop := context.WithCancel(ctx)
	g, gctx := errgroup.WithContext(sctx)
	return &Publication{
		ctx: gctx, stop: stop, b: b, dir: dir, id: id, cfg: cfg, g: g,
		slots: make(chan struct{}, orDefault(cfg.Concurrency, defaultConcurrency)),
	}
}

// ID is the id of the block.
func (p *Publication) ID() ulid.ULID { return p.id }

// Segment uploads the next segment in the background and removes the local file. sum is
// the CRC-32C of the bytes that were written: a local file with other bytes is an error.
// Segment waits while the bound of uploads is reached, and returns the first error of
// an earlier upload.
func (p *Publication) Segment(size int64, sum uint32) error {
	select {
	case p.slots <- struct{}{}:
	case <-p.ctx.Done():
		return p.wait(p.ctx.Err())
	}
	f := &File{RelPath: SegmentName(len(p.files) + 1), SizeBytes: size}
	p.files = append(p.files, f)
	p.g.Go(func() error {
		defer func() { <-p.slots }()
		if err := p.upload(p.ctx, f, &sum); err != nil {
			return err
		}
		return os.Remove(filepath.Join(p.dir, filepath.FromSlash(f.RelPath)))
	})
	return nil
}

// upload checks a local file and uploads it.
func (p *Publication) upload(ctx context.Context, f *File, sum *uint32) error {
	if sum != nil || p.cfg.Hash {
		got, hash, err := checksums(filepath.Join(p.dir, filepath.FromSlash(f.RelPath)), p.cfg.Hash)
		if err != nil {
			return fmt.Errorf("read %s of the new block %s in the work directory: %w", f.RelPath, p.id, err)
		}
		if sum != nil && got != *sum {
			return fmt.Errorf("%s of the new block %s has changed in the work directory: its checksum is %08x instead of %08x", f.RelPath, p.id, got, *sum)
		}
		f.Hash = hash
	}
	return uploadFile(ctx, p.b, p.id, p.dir, *f)
}

// checksums reads a file and returns its CRC-32C, and its SHA-256 if it is wanted.
func checksums(path string, secure bool) (sum uint32, out *Hash, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	crc := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	var w io.Writer = crc
	var sha hash.Hash
	if secure {
		sha = sha256.New()
		w = io.MultiWriter(crc, sha)
	}
	if _, err := io.CopyBuffer(w, struct{ io.Reader }{f}, make([]byte, 256<<10)); err != nil {
		return 0, nil, err
	}
	if secure {
		out = &Hash{Func: HashSHA256, Value: hex.EncodeToString(sha.Sum(nil))}
	}
	return crc.Sum32(), out, nil
}

// wait returns the error of the first upload that failed, or err.
func (p *Publication) wait(err error) error {
	if werr := p.g.Wait(); werr != nil {
		return werr
	}
	return err
}

// Upload waits for the segments, checks the index in the local directory, and uploads
// it. Of m it sets the files and their statistics; m must have the id of the
// publication and external labels. chunkMaxSize is the size of the largest chunk.
func (p *Publication) Upload(ctx context.Context, m *Meta, chunkMaxSize int64) error {
	err := p.wait(nil)
	p.stop()
	if err != nil {
		return err
	}
	if len(m.Thanos.Labels) == 0 {
		return fmt.Errorf("upload block %s: %w", m.ULID, ErrNoLabels)
	}
	var sizes []int64
	m.Thanos.SegmentFiles, m.Thanos.Files = nil, nil
	for _, f := range p.files {
		sizes = append(sizes, f.SizeBytes)
		m.Thanos.SegmentFiles = append(m.Thanos.SegmentFiles, filepath.Base(f.RelPath))
		m.Thanos.Files = append(m.Thanos.Files, *f)
	}
	report, err := verifyIndex(ctx, p.dir, m, sizes)
	if err != nil {
		return fmt.Errorf("verify the new block %s in the work directory: %w", p.id, err)
	}
	m.Thanos.IndexStats = IndexStats{SeriesMaxSize: report.SeriesMaxSize, ChunkMaxSize: chunkMaxSize}
	info, err := os.Stat(filepath.Join(p.dir, IndexFile))
	if err != nil {
		return err
	}
	index := &File{RelPath: IndexFile, SizeBytes: info.Size()}
	if err := p.upload(ctx, index, nil); err != nil {
		return err
	}
	m.Thanos.Files = append(m.Thanos.Files, *index, File{RelPath: MetaFile})
	return nil
}

// Finish publishes meta.json after Upload, which makes the block visible.
func (p *Publication) Finish(ctx context.Context, m *Meta) error {
	return uploadMeta(ctx, p.b, m, p.cfg)
}

// Stop ends the uploads and waits for them.
func (p *Publication) Stop() {
	p.stop()
	_ = p.g.Wait() // the caller has the error
}

// Abandon ends the uploads and deletes their objects. It does nothing before the
// first upload.
func (p *Publication) Abandon(ctx context.Context) error {
	p.Stop()
	if len(p.files) == 0 {
		return nil
	}
	return Delete(ctx, p.b, p.id)
}
