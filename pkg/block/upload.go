package block

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// HashSHA256 is the one hash function that files can have in meta.json.
const HashSHA256 = "SHA256"

// UploadConfig configures Upload; the zero value has the defaults.
type UploadConfig struct {
	// Concurrency bounds parallel uploads of segments; 0 means 4.
	Concurrency int
	// Hash records the SHA-256 of every file in meta.json.
	Hash bool
	// Columns uploads the columns object of a raw block of at most a day too, see package
	// blockcolumns. The block is complete without it, so that a failure of the object, other
	// than a cancellation, is not one of the upload.
	Columns bool
	// ColumnsUploaded gets the size of the object in bytes, ColumnsFailed the error of one that
	// was not uploaded; both may be nil. They are called before meta.json is written.
	ColumnsUploaded func(bytes int64)
	ColumnsFailed   func(error)
	// FS is where the columns object is written before its upload, in the directory of the
	// block; nil is that of the operating system. FreeSpace gives the free bytes of the disk of
	// the directory; nil means vfs.FreeSpace. With less than twice those of the block no object
	// is written, because others need the disk too.
	FS        vfs.FS
	FreeSpace func(dir string) int64
	// Now gives the time of upload; nil means time.Now.
	Now func() time.Time
}

// Upload verifies the block in the local directory dir and publishes it under
// the ULID of its meta.json, which must have external labels: chunk segments,
// then the index and the columns object, each checked for its size afterwards, then
// meta.json, which makes the block visible. It returns the meta.json as published. After a
// failure the caller repeats the upload; it replaces the objects of the failed one.
func Upload(ctx context.Context, b bucket.Bucket, dir string, cfg UploadConfig) (*Meta, error) {
	report, err := Verify(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("verify %s before its upload: %w", dir, err)
	}
	m := report.Meta
	if len(m.Thanos.Labels) == 0 {
		return nil, fmt.Errorf("upload block %s: %w", m.ULID, ErrNoLabels)
	}
	segments, err := segmentFiles(dir)
	if err != nil {
		return nil, withID(m.ULID, err)
	}
	if err := describeFiles(m, dir, segments, cfg.Hash); err != nil {
		return nil, fmt.Errorf("describe files of block %s: %w", m.ULID, err)
	}
	m.Thanos.IndexStats = IndexStats{SeriesMaxSize: report.SeriesMaxSize, ChunkMaxSize: report.ChunkMaxSize}

	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(orDefault(cfg.Concurrency, defaultConcurrency))
	for _, f := range m.Thanos.Files[:len(segments)] {
		g.Go(func() error { return uploadFile(gctx, b, m.ULID, dir, f) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if err := uploadFile(ctx, b, m.ULID, dir, m.Thanos.Files[len(segments)]); err != nil {
		return nil, err
	}
	if err := addColumns(ctx, b, m, dir, cfg); err != nil {
		return nil, err
	}
	return m, uploadMeta(ctx, b, m, cfg)
}

// ErrMayBePublished says that the write of meta.json has failed in such a way that the
// bucket may have it, or may get it yet: other processes may use the block, so that its
// objects must not be deleted.
var ErrMayBePublished = errorid.Sentinel(errorid.BlockUploadOpen, "block may be published")

// uploadMeta sets the time of upload and publishes meta.json. Unless the bucket refused
// the write, an error is ErrMayBePublished.
func uploadMeta(ctx context.Context, b bucket.Bucket, m *Meta, cfg UploadConfig) error {
	now := time.Now
	if cfg.Now != nil {
		now = cfg.Now
	}
	m.Thanos.UploadTime = now().UTC()
	data, err := m.Encode()
	if err != nil {
		return err
	}
	name := Path(m.ULID, MetaFile)
	err = uploadVerified(ctx, b, name, bytes.NewReader(data), int64(len(data)))
	if err == nil || refused(ctx, b, name, err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrMayBePublished, err)
}

// refused says whether an error says that a new object was not written, and it does not
// exist: an earlier try of the same write may have been carried out.
func refused(ctx context.Context, b bucket.Bucket, name string, err error) bool {
	if !errors.Is(err, bucket.ErrFull) && !errors.Is(err, bucket.ErrAccessDenied) {
		return false
	}
	_, err = b.Stat(ctx, name)
	return errors.Is(err, bucket.ErrNotFound)
}

const defaultConcurrency = 4

func orDefault(n, def int) int {
	if n > 0 {
		return n
	}
	return def
}

// describeFiles fills in the lists of files of meta.json: segments, index,
// meta.json, which is their alphabetical order.
func describeFiles(m *Meta, dir string, segments []string, hash bool) error {
	m.Thanos.SegmentFiles = make([]string, 0, len(segments))
	m.Thanos.Files = make([]File, 0, len(segments)+2)
	for _, rel := range append(segments[:len(segments):len(segments)], IndexFile) {
		path := filepath.Join(dir, filepath.FromSlash(rel))
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		f := File{RelPath: rel, SizeBytes: info.Size()}
		if hash {
			sum, err := hashFile(path)
			if err != nil {
				return err
			}
			f.Hash = &Hash{Func: HashSHA256, Value: sum}
		}
		m.Thanos.Files = append(m.Thanos.Files, f)
		if rel != IndexFile {
			m.Thanos.SegmentFiles = append(m.Thanos.SegmentFiles, filepath.Base(rel))
		}
	}
	m.Thanos.Files = append(m.Thanos.Files, File{RelPath: MetaFile})
	return nil
}

func hashFile(path string) (_ string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func uploadFile(ctx context.Context, b bucket.Bucket, id ulid.ULID, dir string, file File) (err error) {
	f, err := os.Open(filepath.Join(dir, filepath.FromSlash(file.RelPath)))
	if err != nil {
		return fmt.Errorf("open %s of block %s for upload: %w", file.RelPath, id, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return uploadVerified(ctx, b, Path(id, file.RelPath), f, file.SizeBytes)
}

// uploadVerified uploads an object and compares its size in the bucket.
func uploadVerified(ctx context.Context, b bucket.Bucket, name string, r io.Reader, size int64) error {
	if err := b.Upload(ctx, name, r, size); err != nil {
		return fmt.Errorf("upload %s: %w", name, err)
	}
	o, err := b.Stat(ctx, name)
	if err != nil {
		return fmt.Errorf("verify upload of %s: %w", name, err)
	}
	if o.Size != size {
		return fmt.Errorf("verify upload of %s: the bucket has %d bytes instead of %d", name, o.Size, size)
	}
	return nil
}
