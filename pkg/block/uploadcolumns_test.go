package block_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blockcolumns"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/columnchunk"
	"github.com/hindsight-io/hindsight/pkg/vfs"
	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

// columnsBlock is a block of a day with floats and histograms.
const columnsBlock = `
block a range=0s..24h labels={cluster="eu"}
  up{job="x"}        0s..5h/1m:1+0.5
  up{job="y"}        0s:1 15s:2 30s:3 | 1m:4
  latency{job="x"}   0s..1h/1m:h1+1
`

// blockDir writes block a of a text and returns its directory.
func blockDir(t *testing.T, text string) string {
	t.Helper()
	return filepath.Join(blocktest.Dir(t, text), blocktest.ID("a").String())
}

// columnsObjects are the columns objects in the bucket, with their sizes there.
func columnsObjects(t *testing.T, b bucket.Reader) map[string]int64 {
	t.Helper()
	out := map[string]int64{}
	require.NoError(t, b.List(t.Context(), "", func(o bucket.Object) error {
		if isColumns(o.Name) {
			out[o.Name] = o.Size
		}
		return nil
	}))
	return out
}

func isColumns(name string) bool { return strings.Contains(name, "/columns-v1-") }

// columnsSamples reads the samples of a metric from the only columns object in the bucket, by
// series.
func columnsSamples(t *testing.T, b bucket.Reader, metric string) map[string]string {
	t.Helper()
	objects := columnsObjects(t, b)
	require.Len(t, objects, 1)
	out := map[string]string{}
	for name, size := range objects {
		_, rel, ok := block.ParsePath(name)
		require.True(t, ok)
		o, ok := blockcolumns.ParseName(rel)
		require.True(t, ok, rel)
		require.Equal(t, size, o.Size)
		data, err := bucket.ReadAll(t.Context(), b, name, size)
		require.NoError(t, err)
		part := func(s blockcolumns.Span) []byte { return data[s.Off:s.End] }
		d, err := blockcolumns.ParseDirectory(o, part(o.DirectorySpan()))
		require.NoError(t, err)
		m, found, err := d.Metric(metric)
		require.NoError(t, err)
		require.True(t, found)
		if m.LeftOut {
			return nil
		}
		s, ok := m.Search(metric, nil)
		require.True(t, ok)
		for _, segment := range m.Segments {
			series, err := s.Append(nil, segment, part(segment.Index))
			require.NoError(t, err)
			for _, f := range series {
				chunks, err := blockcolumns.DecodeChunks(nil, part(f.Chunks))
				require.NoError(t, err)
				out[f.Labels.String()] = samplesOf(t, chunks)
			}
		}
	}
	return out
}

func samplesOf(t *testing.T, chunks []blockcolumns.Chunk) string {
	t.Helper()
	var out strings.Builder
	for _, c := range chunks {
		it := columnchunk.NewIterator(c.Bytes)
		if c.Encoding != columnchunk.Encoding {
			chk, err := chunkenc.FromData(c.Encoding, c.Bytes)
			require.NoError(t, err)
			it = chk.Iterator(nil)
		}
		for it.Next() != chunkenc.ValNone {
			at, v := it.At()
			fmt.Fprintf(&out, "%d:%g ", at, v)
		}
		require.NoError(t, it.Err())
	}
	return out.String()
}

func TestUpload_WritesColumnsBeforeMeta(t *testing.T) {
	dir := blockDir(t, columnsBlock)
	f := buckettest.NewFaulty(bucket.NewMemory(), nil)
	var size int64
	m, err := block.Upload(t.Context(), f, dir, block.UploadConfig{
		Columns: true, ColumnsUploaded: func(bytes int64) { size = bytes },
		ColumnsFailed: func(err error) { require.NoError(t, err) },
	})
	require.NoError(t, err)
	var uploads []string
	for _, op := range f.Calls(false) {
		if op.Kind == "upload" {
			_, rel, _ := block.ParsePath(op.Name)
			uploads = append(uploads, rel)
		}
	}
	require.Len(t, uploads, 4)
	require.Equal(t, []string{"chunks/000001", "index", "meta.json"}, append(uploads[:2:2], uploads[3]))
	object, ok := blockcolumns.ParseName(uploads[2])
	require.True(t, ok, uploads[2])
	require.Equal(t, map[string]int64{block.Path(m.ULID, uploads[2]): object.Size}, columnsObjects(t, f))
	require.Equal(t, object.Size, size)
	require.Len(t, m.Thanos.Files, 3, "readers that check the files of meta.json do not need the object")

	var x strings.Builder
	for i := range 5 * 60 {
		fmt.Fprintf(&x, "%d:%g ", i*60_000, 1+0.5*float64(i))
	}
	require.Equal(t, map[string]string{
		labels.FromStrings("__name__", "up", "job", "x").String(): x.String(),
		labels.FromStrings("__name__", "up", "job", "y").String(): "0:1 15000:2 30000:3 60000:4 ",
	}, columnsSamples(t, f, "up"))
	require.Empty(t, columnsSamples(t, f, "latency"), "histograms are left to the block")
	require.NoFileExists(t, filepath.Join(dir, "columns.tmp"))
}

func TestUpload_WritesColumnsOnlyOfShortRawBlocks(t *testing.T) {
	uploaded := func(text string, cfg block.UploadConfig) bucket.Reader {
		t.Helper()
		b := bucket.NewMemory()
		cfg.ColumnsFailed = func(err error) { require.NoError(t, err) }
		_, err := block.Upload(t.Context(), b, blockDir(t, text), cfg)
		require.NoError(t, err)
		return b
	}
	with := block.UploadConfig{Columns: true}
	require.Len(t, columnsObjects(t, uploaded(columnsBlock, with)), 1)
	require.Empty(t, columnsObjects(t, uploaded(columnsBlock, block.UploadConfig{})))
	require.Empty(t, columnsObjects(t, uploaded(strings.Replace(columnsBlock, "0s..24h", "0s..26h", 1), with)))
	dir := blockDir(t, "block a range=0s..2h labels={cluster=\"eu\"}\n up 0s:1\n")
	m, err := block.ReadMetaDir(dir)
	require.NoError(t, err)
	m.Thanos.Downsample.Resolution = block.Resolution5m
	require.NoError(t, block.WriteMetaDir(dir, m))
	b := bucket.NewMemory()
	_, err = block.Upload(t.Context(), b, dir, with)
	require.NoError(t, err)
	require.Empty(t, columnsObjects(t, b), "a downsampled block")
}

// TestUpload_PublishesBlockWithoutItsColumns lets each request about the columns object fail: the
// block is published nevertheless. The next upload, as of a block that vanished, adds the object.
func TestUpload_PublishesBlockWithoutItsColumns(t *testing.T) {
	for _, kind := range []string{"upload", "stat"} {
		for _, fault := range []buckettest.Fault{{Err: buckettest.ErrInjected}, {Err: buckettest.ErrInjected, AfterEffect: true}, {Short: true}, {Lost: true}} {
			if kind == "stat" && (fault.Short || fault.Lost) {
				continue
			}
			dir := blockDir(t, columnsBlock)
			f := buckettest.NewFaulty(bucket.NewMemory(), func(op buckettest.Op) buckettest.Fault {
				if op.Kind == kind && isColumns(op.Name) {
					return fault
				}
				return buckettest.Fault{}
			})
			var failed []error
			cfg := block.UploadConfig{
				Columns: true, ColumnsFailed: func(err error) { failed = append(failed, err) },
				ColumnsUploaded: func(int64) { require.Fail(t, "reported as uploaded") },
			}
			m, err := block.Upload(t.Context(), f, dir, cfg)
			require.NoError(t, err)
			require.Len(t, failed, 1, "%s %+v", kind, fault)
			_, err = block.Download(t.Context(), f, m.ULID, filepath.Join(t.TempDir(), "copy"), block.DownloadConfig{})
			require.NoError(t, err)
			require.NoFileExists(t, filepath.Join(dir, "columns.tmp"))
			_, err = block.Upload(t.Context(), f, dir, block.UploadConfig{Columns: true})
			require.NoError(t, err, "without callbacks")

			// One version of the program gives a block one name, so that the object is replaced.
			f.SetRule(nil)
			_, err = block.Upload(t.Context(), f, dir, block.UploadConfig{Columns: true, ColumnsFailed: cfg.ColumnsFailed})
			require.NoError(t, err)
			require.Len(t, failed, 1)
			require.Len(t, columnsSamples(t, f, "up"), 2)
		}
	}
}

// TestUpload_EndsWhenCancelled cancels while the columns object is uploaded.
func TestUpload_EndsWhenCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	dir := blockDir(t, columnsBlock)
	f := buckettest.NewFaulty(bucket.NewMemory(), func(op buckettest.Op) buckettest.Fault {
		if op.Kind == "upload" && isColumns(op.Name) {
			cancel()
			return buckettest.Fault{Err: buckettest.ErrInjected}
		}
		return buckettest.Fault{}
	})
	_, err := block.Upload(ctx, f, dir, block.UploadConfig{Columns: true, ColumnsFailed: func(error) { require.Fail(t, "the upload has failed") }})
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, block.ErrMayBePublished, "meta.json was not written")
	for _, op := range f.Calls(false) {
		require.NotContains(t, op.Name, block.MetaFile)
	}
	require.NoFileExists(t, filepath.Join(dir, "columns.tmp"))
}

// TestUpload_LosesOnlyColumnsOnFullDisk lets each operation on the temporary file fail.
func TestUpload_LosesOnlyColumnsOnFullDisk(t *testing.T) {
	faulted := 0
	for at := 1; ; at++ {
		dir := blockDir(t, columnsBlock)
		b := bucket.NewMemory()
		fsys := faultfs.New(vfs.OS(), at, faultfs.Once).CountReads().FailWith(syscall.ENOSPC)
		var failed []error
		m, err := block.Upload(t.Context(), b, dir, block.UploadConfig{
			Columns: true, FS: fsys, ColumnsFailed: func(err error) { failed = append(failed, err) },
		})
		require.NoError(t, err, fsys.Failed())
		_, err = block.Download(t.Context(), b, m.ULID, filepath.Join(t.TempDir(), "copy"), block.DownloadConfig{})
		require.NoError(t, err)
		require.Zero(t, fsys.OpenFiles())
		if fsys.Failed() == "" {
			require.Empty(t, failed)
			require.Greater(t, faulted, 3, "creating, writing, reading and removing the file")
			return
		}
		faulted++
		require.Len(t, failed, 1, fsys.Failed())
		require.ErrorIs(t, failed[0], syscall.ENOSPC)
		if !strings.HasPrefix(fsys.Failed(), "remove") {
			require.NoFileExists(t, filepath.Join(dir, "columns.tmp"), fsys.Failed())
		}
	}
}

// TestUpload_LeavesSpaceOnTheDisk writes no columns object when the disk has less than twice the bytes
// of the block.
func TestUpload_LeavesSpaceOnTheDisk(t *testing.T) {
	dir := blockDir(t, columnsBlock)
	var size int64
	for _, rel := range []string{block.IndexFile, block.SegmentName(1)} {
		info, err := os.Stat(filepath.Join(dir, rel))
		require.NoError(t, err)
		size += info.Size()
	}
	for free, objects := range map[int64]int{2*size - 1: 0, 2 * size: 1} {
		b := bucket.NewMemory()
		failed := 0
		_, err := block.Upload(t.Context(), b, dir, block.UploadConfig{
			Columns: true, FreeSpace: func(of string) int64 {
				require.Equal(t, dir, of)
				return free
			},
			ColumnsFailed: func(err error) {
				failed++
				require.ErrorContains(t, err, fmt.Sprintf("has %d bytes free", free))
			},
		})
		require.NoError(t, err)
		require.Len(t, columnsObjects(t, b), objects)
		require.Equal(t, 1-objects, failed)
	}
}

// TestDelete_RemovesColumns deletes the columns object with its block, also that of a block whose
// upload did not end.
func TestDelete_RemovesColumns(t *testing.T) {
	id := blocktest.ID("a")
	dir := blockDir(t, columnsBlock)
	f := buckettest.NewFaulty(bucket.NewMemory(), nil)
	upload := func() {
		_, err := block.Upload(t.Context(), f, dir, block.UploadConfig{Columns: true})
		require.NoError(t, err)
		require.Len(t, columnsObjects(t, f), 1)
	}
	upload()
	require.NoError(t, block.Delete(t.Context(), f, id))
	require.Empty(t, names(t, f))

	upload()
	require.NoError(t, f.Delete(t.Context(), block.Path(id, block.MetaFile)))
	var newest time.Time
	require.NoError(t, f.List(t.Context(), "", func(o bucket.Object) error {
		if o.LastModified.After(newest) {
			newest = o.LastModified
		}
		return nil
	}))
	deleted, err := block.DeletePartial(t.Context(), f, id, newest)
	require.NoError(t, err)
	require.True(t, deleted)
	require.Empty(t, names(t, f))
}

// TestDownload_LeavesColumns: the object is for readers of the bucket, not for copies of the block.
func TestDownload_LeavesColumns(t *testing.T) {
	b := bucket.NewMemory()
	up, err := block.Upload(t.Context(), b, blockDir(t, columnsBlock), block.UploadConfig{Columns: true})
	require.NoError(t, err)
	up.Thanos.Files, up.Thanos.SegmentFiles = nil, nil // the block is listed
	data, err := up.Encode()
	require.NoError(t, err)
	require.NoError(t, b.Upload(t.Context(), block.Path(up.ULID, block.MetaFile), bytes.NewReader(data), int64(len(data))))
	dir := filepath.Join(t.TempDir(), "copy")
	_, err = block.Download(t.Context(), b, up.ULID, dir, block.DownloadConfig{})
	require.NoError(t, err)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	require.Equal(t, []string{"chunks", "index", "meta.json"}, got)
}
