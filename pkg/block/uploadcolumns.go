package block

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/hindsight-io/hindsight/pkg/block/blockcolumns"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// columnsTemp is the file of a columns object in the directory of the block that is uploaded.
const columnsTemp = "columns.tmp"

// wantsColumns says whether a block gets a columns object: a raw one of a short time, because
// readers need fewer requests with it and there are many such blocks.
func wantsColumns(m *Meta) bool {
	return m.Resolution() == 0 && m.MaxTime-m.MinTime <= blockcolumns.MaxRange
}

// addColumns uploads the columns object, if the block gets one. Only a cancellation is an error:
// then the upload of the block ends too.
func addColumns(ctx context.Context, b bucket.Bucket, m *Meta, dir string, cfg UploadConfig) error {
	if !cfg.Columns || !wantsColumns(m) {
		return nil
	}
	fsys := cfg.FS
	if fsys == nil {
		fsys = vfs.OS()
	}
	var size int64
	err := checkSpace(m, dir, cfg.FreeSpace)
	if err == nil {
		size, err = uploadColumns(ctx, fsys, b, m, dir)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("upload block %s: %w", m.ULID, ctx.Err())
	case err != nil && cfg.ColumnsFailed != nil:
		cfg.ColumnsFailed(err)
	case err == nil && cfg.ColumnsUploaded != nil:
		cfg.ColumnsUploaded(size)
	}
	return nil
}

// checkSpace returns an error if the disk has too little space for the columns object: a database
// on a full disk loses more than readers win by the object.
func checkSpace(m *Meta, dir string, free func(dir string) int64) error {
	if free == nil {
		free = vfs.FreeSpace
	}
	var size int64
	for _, f := range m.Thanos.Files {
		size += f.SizeBytes
	}
	if n := free(dir); n/2 < size {
		return fmt.Errorf("write the columns object of block %s: the disk of %s has %d bytes free, less than twice the %d of the block", m.ULID, dir, n, size)
	}
	return nil
}

// uploadColumns writes the columns object of the block in the directory, and uploads it. Its
// name tells its sizes, so that it is written to a file first. It returns the size.
func uploadColumns(ctx context.Context, fsys vfs.FS, b bucket.Bucket, m *Meta, dir string) (size int64, err error) {
	name := filepath.Join(dir, columnsTemp)
	f, err := fsys.Create(name)
	if err != nil {
		return 0, fmt.Errorf("write the columns object of block %s: %w", m.ULID, err)
	}
	defer func() { err = errors.Join(err, f.Close(), fsys.Remove(name)) }()
	w := bufio.NewWriterSize(f, 1<<20)
	o, err := blockcolumns.Write(ctx, w, dir)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return 0, fmt.Errorf("write the columns object of block %s: %w", m.ULID, err)
	}
	return o.Size, uploadVerified(ctx, b, Path(m.ULID, o.Rel), f, o.Size)
}
