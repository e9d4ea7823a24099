package provider

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// lostFound is a directory that some filesystems have in their root; only the
// superuser may read it.
const lostFound = "lost+found"

// filesystem is a bucket in a directory: every object is a file. An upload is
// written and synced under another name and then renamed, so that readers see all
// of it or none, also after a crash.
type filesystem struct {
	fs      vfs.FS
	root    string
	uploads uploads
	present presence
}

// openDirectory opens the bucket in the directory dir. It writes nothing: a
// directory that does not exist is an empty bucket, and the first upload creates
// it.
func openDirectory(dir string) (bucket.Bucket, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find bucket directory %s: %w", dir, err)
	}
	info, err := os.Stat(root)
	switch {
	case err == nil && !info.IsDir():
		return nil, fmt.Errorf("open bucket directory %s: it is not a directory", root)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("open bucket directory: %w", mapFileErr(err))
	}
	return openFilesystem(vfs.OS(), root), nil
}

func openFilesystem(fsys vfs.FS, root string) *filesystem {
	return &filesystem{fs: fsys, root: root, uploads: uploads{fs: fsys, dir: filepath.Join(root, uploadDir)}}
}

func mapFileErr(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: %w", bucket.ErrNotFound, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", bucket.ErrAccessDenied, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", bucket.ErrFull, err)
	case errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENAMETOOLONG):
		return fmt.Errorf("%w: %w", bucket.ErrPermanent, err)
	}
	return err
}

func (b *filesystem) path(name string) (string, error) {
	if err := bucket.CheckName(name); err != nil {
		return "", err
	}
	return filepath.Join(b.root, filepath.FromSlash(name)), nil
}

func (b *filesystem) List(ctx context.Context, dir string, f func(bucket.Object) error) error {
	path, prefix := b.root, ""
	if dir = strings.TrimSuffix(dir, "/"); dir != "" {
		var err error
		if path, err = b.path(dir); err != nil {
			return err
		}
		prefix = dir + "/"
	}
	none := true
	err := b.list(ctx, path, prefix, func(o bucket.Object) error {
		if none {
			b.present.found(b.root)
			none = false
		}
		return f(o)
	})
	if err == nil && none {
		if err = b.present.lost(b.root); err != nil {
			err = fmt.Errorf("list %q: %w", dir, err)
		}
	}
	return err
}

// absent is the error of an object whose file does not exist.
func (b *filesystem) absent(err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return mapFileErr(err)
	}
	if lost := b.present.lost(b.root); lost != nil {
		return lost
	}
	return mapFileErr(err)
}

// list walks one directory in the order of full object names, in which "a.b"
// comes before "a/b".
func (b *filesystem) list(ctx context.Context, path, prefix string, f func(bucket.Object) error) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, syscall.ENOTDIR) && prefix == "" {
		// Not an empty bucket: openDirectory refuses it, too.
		return fmt.Errorf("list bucket directory %s: %w: %w", path, bucket.ErrPermanent, err)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return ctx.Err() // deleted since, or never created
	}
	if errors.Is(err, fs.ErrPermission) && prefix == lostFound+"/" {
		return ctx.Err() // the bucket is the root of a filesystem
	}
	if err != nil {
		return fmt.Errorf("list %s: %w", path, mapFileErr(err))
	}
	key := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return e.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(key(a), key(b)) })
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if prefix == "" && e.Name() == uploadDir {
			continue
		}
		if e.IsDir() {
			if err := b.list(ctx, filepath.Join(path, e.Name()), prefix+e.Name()+"/", f); err != nil {
				return err
			}
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", path, mapFileErr(err))
		}
		if !info.Mode().IsRegular() {
			continue // links, sockets and the like are no objects
		}
		if err := f(bucket.Object{Name: prefix + e.Name(), Size: info.Size(), LastModified: info.ModTime()}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (b *filesystem) open(ctx context.Context, name string) (*os.File, int64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	path, err := b.path(name)
	if err != nil {
		return nil, 0, err
	}
	// Without O_NONBLOCK, opening a pipe without a writer would block.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("get %s: %w", name, b.absent(err))
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: not a file", bucket.ErrNotFound)
	}
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("get %s: %w", name, err), f.Close())
	}
	return f, info.Size(), nil
}

func (b *filesystem) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	f, size, err := b.open(ctx, name)
	if err != nil {
		return nil, err
	}
	return bucket.ExactReader(ctx, f, name, size), nil
}

type section struct {
	io.Reader
	io.Closer
}

func (b *filesystem) GetRange(ctx context.Context, name string, off, length int64) (io.ReadCloser, error) {
	if off < 0 || length < 0 {
		return nil, fmt.Errorf("range %d+%d of %s: %w: negative", off, length, name, bucket.ErrPermanent)
	}
	f, size, err := b.open(ctx, name)
	if err != nil {
		return nil, err
	}
	if off >= size && length > 0 {
		return nil, errors.Join(fmt.Errorf("range %d+%d of %s: %w", off, length, name, bucket.ErrRange), f.Close())
	}
	rc := section{Reader: io.NewSectionReader(f, off, length), Closer: f}
	return bucket.ExactReader(ctx, rc, name, length), nil
}

func (b *filesystem) Stat(ctx context.Context, name string) (bucket.Object, error) {
	if err := ctx.Err(); err != nil {
		return bucket.Object{}, err
	}
	path, err := b.path(name)
	if err != nil {
		return bucket.Object{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return bucket.Object{}, fmt.Errorf("stat %s: %w", name, b.absent(err))
	}
	if !info.Mode().IsRegular() {
		return bucket.Object{}, fmt.Errorf("stat %s: %w: not a file", name, bucket.ErrNotFound)
	}
	return bucket.Object{Name: name, Size: info.Size(), LastModified: info.ModTime()}, nil
}

// Upload gives the guarantee of vfs.WriteFile. It does not use it, because the
// temporary file must not be where a listing finds it.
func (b *filesystem) Upload(ctx context.Context, name string, r io.Reader, size int64) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	path, err := b.path(name)
	if err != nil {
		return err
	}
	if strings.HasSuffix(name, "/") {
		return fmt.Errorf("upload %s: %w: a file cannot end with a slash", name, bucket.ErrInvalidName)
	}
	if err := b.present.lost(b.root); err != nil {
		return fmt.Errorf("upload %s: %w", name, err)
	}
	defer b.uploads.tidy()
	tmp, err := b.uploads.create()
	if err != nil {
		return fmt.Errorf("upload %s: %w", name, mapFileErr(err))
	}
	defer tmp.unlock()
	err = fill(tmp, contextReader{ctx: ctx, r: r}, size)
	if err == nil {
		err = ended(ctx)
	}
	if err == nil {
		err = b.publish(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("upload %s: %w", name, mapFileErr(err)), b.fs.Remove(tmp.Name()))
	}
	if err := b.syncDirs(filepath.Dir(path)); err != nil {
		return fmt.Errorf("upload %s: %w", name, mapFileErr(err))
	}
	b.present.found(b.root)
	return nil
}

type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// fill writes r into a file, which it syncs and closes. size is the number of
// bytes that r must have, or -1.
func fill(f vfs.File, r io.Reader, size int64) error {
	n, err := io.Copy(f, r)
	if err == nil && size >= 0 && n != size {
		err = fmt.Errorf("%w: %d bytes, announced %d", bucket.ErrLength, n, size)
	}
	if err == nil {
		err = os.Chmod(f.Name(), 0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// publish renames tmp to path. A concurrent Delete may remove the parent directory
// as empty just before the rename.
func (b *filesystem) publish(tmp, path string) error {
	dir := filepath.Dir(path)
	var err error
	for range 10 {
		if err = b.fs.MkdirAll(dir, 0o777); err == nil {
			if err = b.fs.Rename(tmp, path); err == nil {
				return nil
			}
		}
		// A directory may be removed as empty at any time, also while MkdirAll
		// looks at it.
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return err
}

// syncDirs makes the entry in dir durable, and dir's own entry in its parent,
// which may be new as well.
func (b *filesystem) syncDirs(dir string) error {
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := b.fs.SyncDir(d); err != nil {
			return err
		}
	}
	return nil
}

// Delete removes the file and then its directories as far as they are empty.
func (b *filesystem) Delete(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// A listed object can be deleted also when its name is one that Upload refuses.
	if !filepath.IsLocal(name) || strings.ContainsRune(name, 0) {
		return fmt.Errorf("delete: %w: %.80q", bucket.ErrInvalidName, name)
	}
	path := filepath.Join(b.root, filepath.FromSlash(name))
	if info, serr := os.Lstat(path); serr == nil && info.IsDir() {
		return nil // a directory is no object
	}
	if err := errors.Join(ended(ctx), b.present.lost(b.root)); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	rerr := os.Remove(path)
	if rerr != nil && !errors.Is(rerr, fs.ErrNotExist) && !errors.Is(rerr, syscall.ENOTDIR) {
		return fmt.Errorf("delete %s: %w", name, mapFileErr(rerr))
	}
	dir := filepath.Dir(path)
	for dir != b.root && os.Remove(dir) == nil {
		dir = filepath.Dir(dir) // up to one that is not empty or cannot be removed
	}
	return nil
}

func (b *filesystem) Name() string { return "filesystem " + b.root }

func (b *filesystem) Close() error { return nil }

// directoryConfig is the config section of type FILESYSTEM.
type directoryConfig struct {
	Directory string `yaml:"directory"`
}
