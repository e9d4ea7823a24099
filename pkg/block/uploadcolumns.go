package block

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hindsight-io/hindsight/pkg/block/blockcolumns"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// columnsTemp is the file of a columns object in the directory of the block that is uploaded.
const columnsTemp = "columns.tmp"

// wantsColumns says whether a block gets a columns object: a raw one of a short time, because
// readers need fewer requests with it and there are many such blocks.
func wantsColumns(m *Meta) bool {
	return m.Resolution() == 0 && m.MaxTime-m.MinTime <= blockcolumns.MaxRange
}

// uploadColumns writes the columns object of the block in the directory, and uploads it.
func uploadColumns(ctx context.Context, b bucket.Bucket, m *Meta, dir string) (err error) {
	f, err := os.Create(filepath.Join(dir, columnsTemp))
	if err != nil {
		return fmt.Errorf("write the columns object of block %s: %w", m.ULID, err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	w := bufio.NewWriterSize(f, 1<<20)
	o, err := blockcolumns.Write(ctx, w, dir)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		_, err = f.Seek(0, 0)
	}
	if err != nil {
		return fmt.Errorf("write the columns object of block %s: %w", m.ULID, err)
	}
	return uploadVerified(ctx, b, Path(m.ULID, o.Rel), f, o.Size)
}
