package bucketadmin

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// CheckBlock downloads a block into a directory below dir, reads all of it and removes
// it. It returns the damage that block.VerifySamples finds, and the counts of series and chunks
// that differ from meta.json. An error means that the block could not be read; it is
// bucket.ErrNotFound when the block was deleted meanwhile. Damage is only what a second
// download shows as well: callers mark such a block.
func CheckBlock(ctx context.Context, r bucket.Reader, m *block.Meta, dir string) ([]Finding, error) {
	found, err := checkBlock(ctx, r, m, dir)
	if len(found) == 0 || err != nil {
		return nil, err
	}
	return checkBlock(ctx, r, m, dir)
}

// checkBlock is CheckBlock with one download.
func checkBlock(ctx context.Context, r bucket.Reader, m *block.Meta, dir string) (found []Finding, err error) {
	path := filepath.Join(dir, m.ULID.String())
	defer func() { err = errors.Join(err, os.RemoveAll(path)) }()
	if err := os.RemoveAll(path); err != nil {
		return nil, err
	}
	var report *block.Report
	if _, err = block.Download(ctx, r, m.ULID, path, block.DownloadConfig{}); err == nil {
		report, err = block.VerifySamples(ctx, path)
	}
	if bad := (*block.CorruptError)(nil); errors.As(err, &bad) {
		return []Finding{damage(m.ULID, bad.Reason.String(), "%s", bad.Err)}, nil
	}
	if err != nil {
		return nil, err
	}
	return checkReport(report), nil
}
