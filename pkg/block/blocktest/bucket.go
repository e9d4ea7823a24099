package blocktest

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// Dir builds the blocks of a text, each in a directory of a new temporary
// directory that is called like its ULID. Marks are ignored.
func Dir(t testing.TB, text string) string {
	t.Helper()
	spec, err := Parse(text)
	require.NoError(t, err)
	dir := t.TempDir()
	for _, b := range spec.Blocks {
		require.NoError(t, Write(t.Context(), filepath.Join(dir, b.Meta.ULID.String()), &b.Meta, b.Series))
	}
	return dir
}

// Bucket returns a new bucket in memory with the blocks and marks of a text.
func Bucket(t testing.TB, text string) *bucket.Memory {
	t.Helper()
	b := bucket.NewMemory()
	Fill(t, b, text)
	return b
}

// Fill uploads the blocks and marks of a text. Blocks without external labels
// are uploaded as well, though nothing real would do that.
func Fill(t testing.TB, b bucket.Bucket, text string) {
	t.Helper()
	spec, err := Parse(text)
	require.NoError(t, err)
	ctx := t.Context()
	for _, blk := range spec.Blocks {
		if blk.MetaOnly || len(blk.Meta.Thanos.Labels) == 0 {
			require.NoError(t, UploadMeta(ctx, b, &blk.Meta))
			continue
		}
		dir := filepath.Join(t.TempDir(), blk.Meta.ULID.String())
		uploaded := blk.Meta.Thanos.UploadTime
		require.NoError(t, Write(ctx, dir, &blk.Meta, blk.Series))
		m, err := block.Upload(ctx, b, dir, block.UploadConfig{})
		require.NoError(t, err)
		if !uploaded.IsZero() {
			m.Thanos.UploadTime = uploaded
			require.NoError(t, PutMeta(ctx, b, m))
		}
	}
	for _, m := range spec.Marks {
		require.NoError(t, putMark(ctx, b, m))
	}
}

// UploadMeta puts a block into b that consists of meta.json and of an index and
// one segment without content.
func UploadMeta(ctx context.Context, b bucket.Bucket, m *block.Meta) error {
	for _, rel := range []string{block.SegmentName(1), block.IndexFile} {
		if err := b.Upload(ctx, block.Path(m.ULID, rel), bytes.NewReader(nil), 0); err != nil {
			return err
		}
	}
	complete(m)
	return PutMeta(ctx, b, m)
}

// PutMeta uploads a meta.json alone.
func PutMeta(ctx context.Context, b bucket.Bucket, m *block.Meta) error {
	data, err := m.Encode()
	if err != nil {
		return err
	}
	return b.Upload(ctx, block.Path(m.ULID, block.MetaFile), bytes.NewReader(data), int64(len(data)))
}

func putMark(ctx context.Context, b bucket.Bucket, m Mark) (err error) {
	id := ID(m.Block)
	switch m.Kind {
	case "deletion":
		_, err = block.MarkDeletion(ctx, b, id, m.Details, m.At)
		if mem, ok := b.(interface{ SetModified(string, time.Time) }); ok {
			mem.SetModified(block.Path(id, block.DeletionMarkFile), m.At)
		}
	case "no-compact":
		_, err = block.MarkNoCompact(ctx, b, id, block.Cause{Reason: m.Reason, Details: m.Details}, m.At)
	case "no-downsample":
		_, err = block.MarkNoDownsample(ctx, b, id, block.Cause{Reason: m.Reason, Details: m.Details}, m.At)
	default:
		err = fmt.Errorf("unknown kind of mark %q", m.Kind)
	}
	return err
}
