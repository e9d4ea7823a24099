package block

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// DownloadConfig configures Download; the zero value has the defaults.
type DownloadConfig struct {
	// Concurrency bounds parallel downloads of files; 0 means 4.
	Concurrency int
}

// Download copies a block into the local directory dir, which is created, and
// returns its meta.json. It compares the size of every file with meta.json or the
// listing, and the hash where meta.json has one; Verify checks the checksums inside.
// It keeps existing files that have the recorded hash. It writes meta.json last, so
// that a directory with one is complete.
func Download(ctx context.Context, r bucket.Reader, id ulid.ULID, dir string, cfg DownloadConfig) (*Meta, error) {
	m, err := ReadMeta(ctx, r, id)
	if err != nil {
		return nil, err
	}
	files, err := remoteFiles(ctx, r, m)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(dir, ChunksDir), 0o777); err != nil {
		return nil, fmt.Errorf("create directory for block %s: %w", id, err)
	}
	if err := os.Remove(filepath.Join(dir, MetaFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old meta.json of block %s: %w", id, err)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(orDefault(cfg.Concurrency, defaultConcurrency))
	for _, f := range files {
		g.Go(func() error { return downloadFile(gctx, r, id, dir, f) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return m, WriteMetaDir(dir, m)
}

// remoteFiles returns index and segments with their sizes, or -1 for an unknown size.
// It does not trust the names in meta.json: it takes only names of a block's files,
// and lists the bucket when some are missing.
func remoteFiles(ctx context.Context, r bucket.Reader, m *Meta) ([]File, error) {
	var files []File
	hasIndex, segments := false, 0
	named := map[string]bool{}
	for _, f := range m.Thanos.Files {
		if (f.RelPath == IndexFile || isSegment(f.RelPath)) && !named[f.RelPath] {
			named[f.RelPath] = true
			if f.SizeBytes <= 0 {
				f.SizeBytes = -1
			}
			files = append(files, f)
			if f.RelPath == IndexFile {
				hasIndex = true
			} else {
				segments++
			}
		}
	}
	if hasIndex && segments >= len(m.Thanos.SegmentFiles) && (segments > 0 || m.Stats.NumChunks == 0) {
		return files, nil
	}
	files = files[:0]
	err := r.List(ctx, m.ULID.String(), func(o bucket.Object) error {
		_, rel, _ := ParsePath(o.Name)
		if rel == IndexFile || isSegment(rel) {
			files = append(files, File{RelPath: rel, SizeBytes: o.Size})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list files of block %s: %w", m.ULID, err)
	}
	return files, complete(m, files)
}

// Files returns the index and the segments, in their order, of a block in a bucket,
// with their sizes as they are now. A file that is missing, or has another size than
// meta.json says, is a *CorruptError, unless the whole block was deleted.
func Files(ctx context.Context, r bucket.Reader, m *Meta) (index File, segments []File, err error) {
	files, err := remoteFiles(ctx, r, m)
	if err != nil {
		return File{}, nil, err
	}
	for _, f := range files {
		o, err := r.Stat(ctx, Path(m.ULID, f.RelPath))
		switch {
		case errors.Is(err, bucket.ErrNotFound):
			return File{}, nil, missing(ctx, r, m.ULID, f, err)
		case err != nil:
			return File{}, nil, fmt.Errorf("read the size of %s: %w", Path(m.ULID, f.RelPath), err)
		case f.SizeBytes >= 0 && o.Size != f.SizeBytes:
			return File{}, nil, &CorruptError{ID: m.ULID, Reason: reason.BlockSizeMismatch, Err: fmt.Errorf("%s has %d bytes instead of %d", f.RelPath, o.Size, f.SizeBytes)}
		}
		f.SizeBytes = o.Size
		if f.RelPath == IndexFile {
			index = f
		} else {
			segments = append(segments, f)
		}
	}
	slices.SortFunc(segments, func(a, b File) int { return strings.Compare(a.RelPath, b.RelPath) })
	for i, f := range segments {
		if want := SegmentName(i + 1); f.RelPath != want {
			return File{}, nil, &CorruptError{ID: m.ULID, Reason: reason.BlockSegmentCorrupt, Err: fmt.Errorf("%s is missing", want)}
		}
	}
	return index, segments, nil
}

// missing is the error of a file that does not exist: its block was deleted meanwhile,
// or is damaged.
func missing(ctx context.Context, r bucket.Reader, id ulid.ULID, f File, err error) error {
	if _, merr := r.Stat(ctx, Path(id, MetaFile)); errors.Is(merr, bucket.ErrNotFound) {
		return fmt.Errorf("block %s was deleted while it was read: %w", id, merr)
	}
	return &CorruptError{ID: id, Reason: reason.BlockSizeMismatch, Err: fmt.Errorf("read %s: %w", f.RelPath, err)}
}

// complete returns an error when a listing of the block's files lacks the index or all
// segments.
func complete(m *Meta, files []File) error {
	hasIndex := slices.ContainsFunc(files, func(f File) bool { return f.RelPath == IndexFile })
	switch {
	case !hasIndex:
		return &CorruptError{ID: m.ULID, Reason: reason.BlockSizeMismatch, Err: errors.New("there is no index")}
	case len(files) == 1 && m.Stats.NumChunks > 0:
		return &CorruptError{ID: m.ULID, Reason: reason.BlockSizeMismatch, Err: errors.New("there are no chunk segments")}
	}
	return nil
}

// downloadFile downloads one file and checks its size and, where meta.json has it, its
// hash. It keeps a local file with the recorded hash.
func downloadFile(ctx context.Context, r bucket.Reader, id ulid.ULID, dir string, file File) error {
	path := filepath.Join(dir, filepath.FromSlash(file.RelPath))
	if file.Hash != nil && file.Hash.Func == HashSHA256 {
		if sum, err := hashFile(path); err == nil && strings.EqualFold(sum, file.Hash.Value) {
			return nil
		}
	}
	name := Path(id, file.RelPath)
	n, err := copyObject(ctx, r, name, path, file.SizeBytes)
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		return missing(ctx, r, id, file, err)
	case err != nil:
		return fmt.Errorf("download %s: %w", name, err)
	case file.SizeBytes >= 0 && n != file.SizeBytes:
		return &CorruptError{ID: id, Reason: reason.BlockSizeMismatch, Err: fmt.Errorf("%s has %d bytes instead of %d", file.RelPath, n, file.SizeBytes)}
	}
	if file.Hash != nil && file.Hash.Func == HashSHA256 {
		sum, err := hashFile(path)
		if err != nil {
			return fmt.Errorf("hash %s of block %s: %w", file.RelPath, id, err)
		}
		if !strings.EqualFold(sum, file.Hash.Value) {
			return &CorruptError{ID: id, Reason: reason.BlockHashMismatch, Err: fmt.Errorf("%s has SHA-256 %s instead of %s", file.RelPath, sum, file.Hash.Value)}
		}
	}
	return nil
}

// copyObject writes an object into a file. With a known size it reads a range, because
// a range read that breaks off is continued; it then compares the size with that of
// the object first.
func copyObject(ctx context.Context, r bucket.Reader, name, path string, size int64) (n int64, err error) {
	var rc io.ReadCloser
	if size > 0 {
		o, serr := r.Stat(ctx, name)
		if serr != nil {
			return 0, serr
		}
		if o.Size != size {
			return o.Size, nil
		}
		rc, err = r.GetRange(ctx, name, 0, size)
	} else {
		rc, err = r.Get(ctx, name)
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(f, rc)
	return n, errors.Join(err, f.Close())
}
