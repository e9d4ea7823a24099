package block_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

const small = `
block a labels={cluster="eu"}
  up{job="x"}  0s..30m/1m:1+1
  up{job="y"}  0s:1 1m:2 | 2m:3
  lat{job="x"} 0s..10m/1m:h1+1
`

func smallBlock(t *testing.T) string {
	return filepath.Join(blocktest.Dir(t, small), blocktest.ID("a").String())
}

// dump reads a block with Prometheus's own readers: every series through every
// label's postings, with the bytes of its chunks.
func dump(dir string) (out string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reader failed: %v", p)
		}
	}()
	ir, err := index.NewFileReader(filepath.Join(dir, "index"), index.DecodePostingsRaw)
	if err != nil {
		return "", err
	}
	defer ir.Close()
	cr, err := chunks.NewDirReader(filepath.Join(dir, "chunks"), chunkenc.NewPool())
	if err != nil {
		return "", err
	}
	defer cr.Close()
	ctx := context.Background()
	names, err := ir.LabelNames(ctx)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, name := range names {
		values, err := ir.LabelValues(ctx, name, nil)
		if err != nil {
			return "", err
		}
		for _, value := range values {
			p, err := ir.Postings(ctx, name, value)
			if err != nil {
				return "", err
			}
			for p.Next() {
				var builder labels.ScratchBuilder
				var chks []chunks.Meta
				if err := ir.Series(p.At(), &builder, &chks); err != nil {
					return "", err
				}
				fmt.Fprintf(&b, "%s=%s %s\n", name, value, builder.Labels())
				for _, c := range chks {
					chk, _, err := cr.ChunkOrIterable(c)
					if err != nil {
						return "", err
					}
					fmt.Fprintf(&b, "%d %d %d %x\n", c.MinTime, c.MaxTime, chk.Encoding(), chk.Bytes())
				}
			}
			if err := p.Err(); err != nil {
				return "", err
			}
		}
	}
	return b.String(), nil
}

// TestVerify_FindsEveryFlippedBit inverts a bit of each byte in turn. A block that Verify
// accepts must read exactly as before.
func TestVerify_FindsEveryFlippedBit(t *testing.T) {
	dir := smallBlock(t)
	want, err := dump(dir)
	require.NoError(t, err)
	rnd := rand.New(rand.NewSource(1))
	for _, rel := range []string{"index", "chunks/000001"} {
		path := filepath.Join(dir, rel)
		good, err := os.ReadFile(path)
		require.NoError(t, err)
		harmless := 0
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << rnd.Intn(8)
			require.NoError(t, os.WriteFile(path, bad, 0o666))
			_, err := block.Verify(t.Context(), dir)
			if err != nil {
				require.NotEmpty(t, block.ReasonOf(err), "byte %d of %s: %v", i, rel, err)
				continue
			}
			harmless++
			got, err := dump(dir)
			require.NoError(t, err, "byte %d of %s passed", i, rel)
			require.Equal(t, want, got, "byte %d of %s passed", i, rel)
		}
		require.Less(t, harmless, len(good)/4, "too much of %s is unprotected", rel)
		require.NoError(t, os.WriteFile(path, good, 0o666))
	}
}

func TestVerify_FindsEveryTruncation(t *testing.T) {
	dir := smallBlock(t)
	for _, rel := range []string{"index", "chunks/000001"} {
		path := filepath.Join(dir, rel)
		good, err := os.ReadFile(path)
		require.NoError(t, err)
		for n := range good {
			require.NoError(t, os.WriteFile(path, good[:n], 0o666))
			_, err := block.Verify(t.Context(), dir)
			require.NotEmpty(t, block.ReasonOf(err), "%d bytes of %s: %v", n, rel, err)
			require.ErrorContains(t, err, blocktest.ID("a").String())
		}
		require.NoError(t, os.WriteFile(path, good, 0o666))
	}
	_, err := block.Verify(t.Context(), dir)
	require.NoError(t, err)
}

// TestVerify_AcceptsBlockOfPrometheus checks a block that the writer of Prometheus made.
func TestVerify_AcceptsBlockOfPrometheus(t *testing.T) {
	dir := t.TempDir()
	w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), dir, 2*60*60*1000)
	require.NoError(t, err)
	app := w.Appender(t.Context())
	const series, samples = 50, 300
	for s := range series {
		for i := range samples {
			_, err := app.Append(0, labels.FromStrings("__name__", "m", "s", fmt.Sprint(s)), int64(i)*15_000, float64(i))
			require.NoError(t, err)
		}
	}
	require.NoError(t, app.Commit())
	id, err := w.Flush(t.Context())
	require.NoError(t, err)
	r, err := block.Verify(t.Context(), filepath.Join(dir, id.String()))
	require.NoError(t, err)
	require.Equal(t, series, r.Series)
	require.Equal(t, int(r.Meta.Stats.NumChunks), r.Chunks)
	require.False(t, r.Flawed())
	require.NoError(t, w.Close())
}

func TestVerify_RefusesMissingFiles(t *testing.T) {
	for rel, want := range map[string]reason.Reason{
		"index": reason.BlockIndexCorrupt, "chunks": reason.BlockChunkCorrupt, "chunks/000001": reason.BlockChunkCorrupt, "meta.json": reason.BlockMetaMissing,
	} {
		dir := smallBlock(t)
		require.NoError(t, os.RemoveAll(filepath.Join(dir, rel)))
		_, err := block.Verify(t.Context(), dir)
		require.Equal(t, want, block.ReasonOf(err), "%s: %v", rel, err)
	}
	dir := smallBlock(t)
	require.NoError(t, os.Rename(filepath.Join(dir, "chunks/000001"), filepath.Join(dir, "chunks/000002")))
	_, err := block.Verify(t.Context(), dir)
	require.Equal(t, reason.BlockSegmentCorrupt, block.ReasonOf(err))
	require.ErrorContains(t, err, "chunks/000001")
}

// TestVerify_CountsFlaws has chunks with right checksums that can be read.
func TestVerify_CountsFlaws(t *testing.T) {
	chunk := func(mint, maxt int64) chunks.Meta {
		c := chunkenc.NewXORChunk()
		app, err := c.Appender()
		require.NoError(t, err)
		app.Append(0, mint, 1)
		app.Append(0, maxt, 2)
		return chunks.Meta{Chunk: c, MinTime: mint, MaxTime: maxt}
	}
	write := func(cs ...chunks.Meta) (*block.Report, error) {
		dir := t.TempDir()
		m := &block.Meta{}
		m.ULID, m.MinTime, m.MaxTime = blocktest.ID("a"), 0, 1000
		require.NoError(t, blocktest.Write(t.Context(), dir, m, []blocktest.Series{{Labels: labels.FromStrings("a", "b"), Chunks: cs}}))
		return block.Verify(t.Context(), dir)
	}
	r, err := write(chunk(0, 10), chunk(11, 999))
	require.NoError(t, err)
	require.False(t, r.Flawed())
	r, err = write(chunk(0, 10), chunk(990, 1000))
	require.NoError(t, err)
	require.Equal(t, 1, r.OutsideChunks)
	require.Contains(t, r.Example, "[990, 1000]")
	r, err = write(chunk(-1, 10), chunk(1000, 1001))
	require.NoError(t, err)
	require.Equal(t, 1, r.OutsideChunks)
	require.Equal(t, 1, r.BoundaryChunks)
	require.True(t, r.Flawed())
}

func TestUpload_RefusesBrokenBlock(t *testing.T) {
	dir := smallBlock(t)
	path := filepath.Join(dir, "chunks/000001")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	data[len(data)-10] ^= 4
	require.NoError(t, os.WriteFile(path, data, 0o666))
	b := bucket.NewMemory()
	_, err = block.Upload(t.Context(), b, dir, block.UploadConfig{})
	require.Equal(t, reason.BlockChunkCorrupt, block.ReasonOf(err))
	require.Empty(t, names(t, b))
}

// TestDownload_RefusesDamagedObjects downloads blocks with missing, short and other objects.
func TestDownload_RefusesDamagedObjects(t *testing.T) {
	id := blocktest.ID("a")
	f := func(change func(b *bucket.Memory), want reason.Reason) {
		t.Helper()
		b := bucket.NewMemory()
		_, err := block.Upload(t.Context(), b, smallBlock(t), block.UploadConfig{Hash: true})
		require.NoError(t, err)
		change(b)
		dir := t.TempDir()
		_, err = block.Download(t.Context(), b, id, dir, block.DownloadConfig{})
		require.Equal(t, want, block.ReasonOf(err), "%v", err)
		require.NoFileExists(t, filepath.Join(dir, block.MetaFile))
	}
	edit := func(rel string, change func([]byte) []byte) func(b *bucket.Memory) {
		return func(b *bucket.Memory) {
			data, err := bucket.ReadAll(t.Context(), b, block.Path(id, rel), 1<<20)
			require.NoError(t, err)
			data = change(data)
			require.NoError(t, b.Upload(t.Context(), block.Path(id, rel), bytes.NewReader(data), int64(len(data))))
		}
	}
	for _, rel := range []string{"index", "chunks/000001"} {
		f(edit(rel, func(b []byte) []byte { return b[:len(b)-1] }), reason.BlockSizeMismatch)
		f(edit(rel, func(b []byte) []byte { return append(b, 0) }), reason.BlockSizeMismatch)
		f(edit(rel, func(b []byte) []byte { return nil }), reason.BlockSizeMismatch)
		f(edit(rel, func(b []byte) []byte { b[20] ^= 1; return b }), reason.BlockHashMismatch)
		f(func(b *bucket.Memory) { require.NoError(t, b.Delete(t.Context(), block.Path(id, rel))) }, reason.BlockSizeMismatch)
	}
	f(edit("meta.json", func(b []byte) []byte { return b[:len(b)/2] }), reason.BlockMetaMalformed)
}

// TestDownload_DeletedBlockIsNotCorrupt deletes the block during its download.
func TestDownload_DeletedBlockIsNotCorrupt(t *testing.T) {
	mem := blocktest.Bucket(t, small)
	f := buckettest.NewFaulty(mem, func(op buckettest.Op) buckettest.Fault {
		if op.Kind == "stat" && op.N == 1 {
			require.NoError(t, block.Delete(t.Context(), mem, blocktest.ID("a")))
		}
		return buckettest.Fault{}
	})
	_, err := block.Download(t.Context(), f, blocktest.ID("a"), t.TempDir(), block.DownloadConfig{})
	require.ErrorIs(t, err, bucket.ErrNotFound)
	require.Empty(t, block.ReasonOf(err))
}

// TestDownload_BrokenConnectionIsNotCorrupt has a bucket whose bodies always break off.
func TestDownload_BrokenConnectionIsNotCorrupt(t *testing.T) {
	f := buckettest.NewFaulty(blocktest.Bucket(t, small), func(op buckettest.Op) buckettest.Fault {
		if op.Kind == "get_range" {
			return buckettest.Fault{CutAt: 10}
		}
		return buckettest.Fault{}
	})
	_, err := block.Download(t.Context(), f, blocktest.ID("a"), t.TempDir(), block.DownloadConfig{})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Empty(t, block.ReasonOf(err))
}

// TestDownload_ContinuesAfterBrokenBody has a bucket whose first body breaks off.
func TestDownload_ContinuesAfterBrokenBody(t *testing.T) {
	mem := blocktest.Bucket(t, small)
	cut := 0
	f := buckettest.NewFaulty(mem, func(op buckettest.Op) buckettest.Fault {
		if op.Kind == "get_range" && cut < 5 {
			cut++
			return buckettest.Fault{CutAt: 100, Err: errors.New("connection reset")}
		}
		return buckettest.Fault{}
	})
	dir := t.TempDir()
	_, err := block.Download(t.Context(), bucket.Retry(f, bucket.RetryConfig{MinBackoff: 1, MaxBackoff: 1, MaxTries: 10, Deadline: 1 << 40}, nil), blocktest.ID("a"), dir, block.DownloadConfig{})
	require.NoError(t, err)
	require.Equal(t, 5, cut)
	_, err = block.Verify(t.Context(), dir)
	require.NoError(t, err)
}

// FuzzVerify gives Verify files of any content.
func FuzzVerify(f *testing.F) {
	spec, err := blocktest.Parse(small)
	require.NoError(f, err)
	dir := f.TempDir()
	require.NoError(f, blocktest.Write(context.Background(), dir, &spec.Blocks[0].Meta, spec.Blocks[0].Series))
	ix, err := os.ReadFile(filepath.Join(dir, "index"))
	require.NoError(f, err)
	seg, err := os.ReadFile(filepath.Join(dir, "chunks/000001"))
	require.NoError(f, err)
	f.Add(ix, seg)
	f.Add(ix[:100], seg[:9])
	f.Fuzz(func(t *testing.T, ix, seg []byte) {
		dir := t.TempDir()
		require.NoError(t, block.WriteMetaDir(dir, &spec.Blocks[0].Meta))
		require.NoError(t, os.Mkdir(filepath.Join(dir, "chunks"), 0o777))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "index"), ix, 0o666))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "chunks/000001"), seg, 0o666))
		if _, err := block.Verify(t.Context(), dir); err != nil {
			require.NotEmpty(t, block.ReasonOf(err), "%v", err)
		}
	})
}
