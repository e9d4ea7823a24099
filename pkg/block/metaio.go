package block

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// ReadMeta reads the meta.json of a block in a bucket. It fails with
// bucket.ErrNotFound when there is none, and with a *CorruptError when it
// cannot be used.
func ReadMeta(ctx context.Context, r bucket.Reader, id ulid.ULID) (*Meta, error) {
	return ReadMetaUpTo(ctx, r, id, MaxMetaSize)
}

// ReadMetaUpTo is ReadMeta with another bound of the size in bytes. Beyond it the
// error is also bucket.ErrTooLarge.
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

// ReadMetaDir reads the meta.json of a block in a local directory. The name of
// the directory does not matter.
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

// WriteMetaDir writes meta.json into a local directory, atomically and synced.
func WriteMetaDir(dir string, m *Meta) error {
	data, err := m.Encode()
	if err != nil {
		return err
	}
	return writeFileAtomic(filepath.Join(dir, MetaFile), data)
}

func writeFileAtomic(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp*")
	if err != nil {
		return fmt.Errorf("create temporary file for %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
		}
	}()
	_, err = bytes.NewReader(data).WriteTo(f)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
