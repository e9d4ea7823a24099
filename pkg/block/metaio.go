package block

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/reason"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// ReadMeta reads the meta.json of a block in a bucket. Without one it returns
// bucket.ErrNotFound, and a *CorruptError when meta.json cannot be used.
func ReadMeta(ctx context.Context, r bucket.Reader, id ulid.ULID) (*Meta, error) {
	return ReadMetaUpTo(ctx, r, id, MaxMetaSize)
}

// ReadMetaUpTo is ReadMeta with a limit in bytes. The error for a larger meta.json
// is also bucket.ErrTooLarge.
func ReadMetaUpTo(ctx context.Context, r bucket.Reader, id ulid.ULID, limit int64) (*Meta, error) {
	data, err := bucket.ReadAll(ctx, r, Path(id, MetaFile), limit)
	if errors.Is(err, bucket.ErrTooLarge) {
		return nil, &CorruptError{ID: id, Reason: reason.BlockMetaMalformed, Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("read meta.json of block %s: %w", id, err)
	}
	m, err := ParseMeta(data)
	if err != nil {
		return nil, withID(id, err)
	}
	if m.ULID != id {
		return nil, &CorruptError{ID: id, Reason: reason.BlockMetaForeign, Err: fmt.Errorf("meta.json is of block %s", m.ULID)}
	}
	return m, nil
}

// ReadMetaDir reads the meta.json of a block in a local directory, which may have
// any name.
func ReadMetaDir(dir string) (*Meta, error) {
	path := filepath.Join(dir, MetaFile)
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, corrupt(reason.BlockMetaMalformed, "%s is not a file", path)
	}
	if err == nil && info.Size() > MaxMetaSize {
		return nil, corrupt(reason.BlockMetaMalformed, "%s has %d bytes", path, info.Size())
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, corrupt(reason.BlockMetaMissing, "read meta.json: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read meta.json: %w", err)
	}
	m, err := ParseMeta(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// WriteMetaDir writes meta.json into a local directory, with the crash guarantee
// of vfs.WriteFile. It removes temporary files that earlier crashes left. Only one
// caller may write into a directory at a time.
func WriteMetaDir(dir string, m *Meta) error { return writeMeta(vfs.OS(), dir, m) }

func writeMeta(fsys vfs.FS, dir string, m *Meta) error {
	data, err := m.Encode()
	if err != nil {
		return err
	}
	if err := vfs.RemoveTemp(fsys, dir, MetaFile); err != nil {
		return err
	}
	return vfs.WriteBytes(fsys, filepath.Join(dir, MetaFile), 0o644, data)
}
