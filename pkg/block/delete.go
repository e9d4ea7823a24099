package block

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// deleteConcurrency bounds parallel deletions of one block's objects.
const deleteConcurrency = 8

// Delete removes a block: meta.json first, so that no reader uses an incomplete block;
// the deletion mark last, so that an interrupted deletion is recognised and finished.
// Deleting a block that does not exist is no error.
func Delete(ctx context.Context, b bucket.Bucket, id ulid.ULID) error {
	if err := b.Delete(ctx, Path(id, MetaFile)); err != nil {
		return fmt.Errorf("delete block %s: %w", id, err)
	}
	var files, markers []string
	mark := Path(id, DeletionMarkFile)
	err := b.List(ctx, id.String(), func(o bucket.Object) error {
		switch {
		case strings.HasSuffix(o.Name, "/"):
			markers = append(markers, o.Name)
		case o.Name != mark:
			files = append(files, o.Name)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list block %s to delete it: %w", id, err)
	}
	// A failed deletion of one object does not prevent the others.
	var g errgroup.Group
	g.SetLimit(deleteConcurrency)
	for _, name := range files {
		g.Go(func() error { return b.Delete(ctx, name) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("delete block %s: %w", id, err)
	}
	if err := b.Delete(ctx, mark); err != nil {
		return fmt.Errorf("delete block %s: %w", id, err)
	}
	// Objects that stand for directories have no content. Readers ignore them, so a
	// failure to delete them is no error.
	for i := len(markers) - 1; i >= 0; i-- {
		_ = b.Delete(ctx, markers[i])
	}
	return nil
}

// DeleteMarked deletes a block that has a deletion mark which is due; due gets the mark and
// the time at which it was written, by the clock of the bucket, zero if unknown. It returns
// false without one: an operator may have removed the mark since the bucket was listed, or
// another one may have been written.
func DeleteMarked(ctx context.Context, b bucket.Bucket, id ulid.ULID, due func(m *DeletionMark, written time.Time) bool) (bool, error) {
	var m DeletionMark
	err := ReadMark(ctx, b, id, &m)
	var o bucket.Object
	if err == nil {
		o, err = b.Stat(ctx, Path(id, DeletionMarkFile))
	}
	switch {
	case errors.Is(err, bucket.ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look at the deletion mark of block %s: %w", id, err)
	case !due(&m, o.LastModified):
		return false, nil
	}
	return true, Delete(ctx, b, id)
}

// DeletePartial deletes the objects of a block without meta.json. It returns false if the
// block has one, or an object that was written after listed, the time of the bucket when
// it was listed: its upload has ended or goes on.
func DeletePartial(ctx context.Context, b bucket.Bucket, id ulid.ULID, listed time.Time) (bool, error) {
	alive := false
	err := b.List(ctx, id.String(), func(o bucket.Object) error {
		alive = alive || o.LastModified.After(listed)
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("list partial block %s: %w", id, err)
	}
	if alive {
		return false, nil
	}
	_, err = b.Stat(ctx, Path(id, MetaFile))
	if err == nil {
		return false, nil
	}
	if !errors.Is(err, bucket.ErrNotFound) {
		return false, fmt.Errorf("look for meta.json of partial block %s: %w", id, err)
	}
	return true, Delete(ctx, b, id)
}
