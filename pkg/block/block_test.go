package block_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// sample is a block with several chunks and kinds of samples.
const sample = `
block a labels={cluster="eu",replica="0"}
  up{job="x"}        0s..2h/15s:1+0.5
  up{job="y"}        0s:1 15s:stale 30s:NaN | 1m:4
  latency{job="x"}   0s..1h/1m:h1+1
  latency{job="y"}   0s..1h/1m:fh1+1
`

// names lists the objects of a bucket.
func names(t *testing.T, b bucket.Reader) []string {
	t.Helper()
	out := []string{}
	require.NoError(t, b.List(t.Context(), "", func(o bucket.Object) error {
		out = append(out, o.Name)
		return nil
	}))
	return out
}

func TestDownload_ReturnsUploadedBlock(t *testing.T) {
	id := blocktest.ID("a")
	dir := filepath.Join(blocktest.Dir(t, sample), id.String())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tombstones"), []byte("x"), 0o666))
	f := buckettest.NewFaulty(bucket.NewMemory(), nil)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("x", 3600))
	m, err := block.Upload(t.Context(), f, dir, block.UploadConfig{Hash: true, Now: func() time.Time { return now }})
	require.NoError(t, err)

	var uploads []string
	for _, op := range f.Calls(false) {
		if op.Kind == "upload" {
			uploads = append(uploads, op.Name)
		}
	}
	require.Equal(t, []string{block.Path(id, "chunks/000001"), block.Path(id, "index"), block.Path(id, "meta.json")}, uploads)
	require.Equal(t, now.UTC(), m.Thanos.UploadTime)
	require.Equal(t, []string{"000001"}, m.Thanos.SegmentFiles)
	require.Len(t, m.Thanos.Files, 3)
	require.Equal(t, block.File{RelPath: "meta.json"}, m.Thanos.Files[2])
	require.Equal(t, "SHA256", m.Thanos.Files[0].Hash.Func)
	require.Positive(t, m.Thanos.IndexStats.SeriesMaxSize)
	require.Positive(t, m.Thanos.IndexStats.ChunkMaxSize)

	got, err := block.ReadMeta(t.Context(), f, id)
	require.NoError(t, err)
	require.Equal(t, m, got)

	to := filepath.Join(t.TempDir(), "copy")
	got, err = block.Download(t.Context(), f, id, to, block.DownloadConfig{})
	require.NoError(t, err)
	require.Equal(t, m, got)
	for _, rel := range []string{"chunks/000001", "index"} {
		want, err := os.ReadFile(filepath.Join(dir, rel))
		require.NoError(t, err)
		have, err := os.ReadFile(filepath.Join(to, rel))
		require.NoError(t, err)
		require.Equal(t, want, have)
	}
	report, err := block.Verify(t.Context(), to)
	require.NoError(t, err)
	require.Equal(t, 4, report.Series)
	require.Equal(t, int(m.Stats.NumChunks), report.Chunks)
	require.False(t, report.Flawed())

	// Files with the recorded hash are not fetched again.
	f.Calls(true)
	_, err = block.Download(t.Context(), f, id, to, block.DownloadConfig{})
	require.NoError(t, err)
	require.Len(t, f.Calls(false), 1)
}

func TestDownload_ListsBlockWithoutRecordedFiles(t *testing.T) {
	b := blocktest.Bucket(t, sample)
	id := blocktest.ID("a")
	m, err := block.ReadMeta(t.Context(), b, id)
	require.NoError(t, err)
	all := m.Thanos.Files
	for _, files := range [][]block.File{nil, all[1:], all[:1], {{RelPath: "../../etc/passwd"}, {RelPath: "chunks/../x"}, {RelPath: "/abs"}}} {
		m.Thanos.Files = files
		require.NoError(t, blocktest.PutMeta(t.Context(), b, m))
		dir := filepath.Join(t.TempDir(), "x")
		_, err = block.Download(t.Context(), b, id, dir, block.DownloadConfig{})
		require.NoError(t, err)
		_, err = block.Verify(t.Context(), dir)
		require.NoError(t, err)
	}
}

func TestUpload_RefusesBlockWithoutLabels(t *testing.T) {
	dir := blocktest.Dir(t, "block a\n up 0s:1\n")
	b := bucket.NewMemory()
	_, err := block.Upload(t.Context(), b, filepath.Join(dir, blocktest.ID("a").String()), block.UploadConfig{})
	require.ErrorIs(t, err, block.ErrNoLabels)
	require.Empty(t, names(t, b))
}

// TestUpload_FailureLeavesNoVisibleBlock lets each call of an upload fail: the block must never be
// visible, and a second upload must succeed.
func TestUpload_FailureLeavesNoVisibleBlock(t *testing.T) {
	dir := filepath.Join(blocktest.Dir(t, sample), blocktest.ID("a").String())
	for n := 1; n <= 6; n++ {
		calls := 0
		f := buckettest.NewFaulty(bucket.NewMemory(), func(buckettest.Op) buckettest.Fault {
			if calls++; calls == n {
				return buckettest.Fault{Err: buckettest.ErrInjected}
			}
			return buckettest.Fault{}
		})
		_, err := block.Upload(t.Context(), f, dir, block.UploadConfig{})
		require.ErrorIs(t, err, buckettest.ErrInjected)
		if n < 6 { // the sixth is the check of an existing meta.json
			require.NotContains(t, names(t, f.Bucket), block.Path(blocktest.ID("a"), "meta.json"), "call %d failed", n)
		}
		_, err = block.Upload(t.Context(), f, dir, block.UploadConfig{})
		require.NoError(t, err)
	}
}

func TestDelete_RemovesMetaFirstAndMarkLast(t *testing.T) {
	id := blocktest.ID("a")
	mem := blocktest.Bucket(t, sample+"mark a deletion at=1h\nmark a no-compact\nblock b labels={x=\"y\"}\n")
	put := func(name string) {
		require.NoError(t, mem.Upload(t.Context(), name, strings.NewReader(""), 0))
	}
	put(id.String() + "/")
	put(id.String() + "/chunks/")
	f := buckettest.NewFaulty(mem, nil)
	require.NoError(t, block.Delete(t.Context(), f, id))
	var deleted []string
	for _, op := range f.Calls(false) {
		if op.Kind == "delete" {
			deleted = append(deleted, strings.TrimPrefix(op.Name, id.String()+"/"))
		}
	}
	require.Equal(t, "meta.json", deleted[0])
	require.Equal(t, []string{"deletion-mark.json", "chunks/"}, deleted[len(deleted)-2:])
	slices.Sort(deleted)
	require.Equal(t, []string{"chunks/", "chunks/000001", "deletion-mark.json", "index", "meta.json", "no-compact-mark.json"}, deleted)
	for _, name := range names(t, mem) {
		require.NotContains(t, name, id.String()+"/c")
	}
	require.NoError(t, block.Delete(t.Context(), f, id), "again")
	_, err := block.ReadMeta(t.Context(), f, blocktest.ID("b"))
	require.NoError(t, err)
}

// TestDeleteMarked_LooksAtTheMarkAgain deletes only a block with a mark that is due now.
func TestDeleteMarked_LooksAtTheMarkAgain(t *testing.T) {
	b := blocktest.Bucket(t, "block a labels={x=\"1\"}\n  m 0m:1\n")
	id := blocktest.ID("a")
	dueAt := func(at int64) func(*block.DeletionMark, time.Time) bool {
		return func(m *block.DeletionMark, written time.Time) bool { return !m.Since(written).After(time.Unix(at, 0)) }
	}
	kept := func(at int64) {
		t.Helper()
		deleted, err := block.DeleteMarked(t.Context(), b, id, dueAt(at))
		require.NoError(t, err)
		require.False(t, deleted)
		_, err = block.ReadMeta(t.Context(), b, id)
		require.NoError(t, err)
	}
	kept(1000) // no mark
	_, err := block.MarkDeletion(t.Context(), b, id, "", time.Unix(100, 0))
	require.NoError(t, err)
	mark := block.Path(id, block.DeletionMarkFile)
	b.SetModified(mark, time.Unix(300, 0))
	kept(200) // written later than it says
	b.SetModified(mark, time.Time{})
	kept(99)
	deleted, err := block.DeleteMarked(t.Context(), b, id, dueAt(100)) // of a bucket without times
	require.NoError(t, err)
	require.True(t, deleted)
}

func TestMark_KeepsFirstMark(t *testing.T) {
	b := bucket.NewMemory()
	id := blocktest.ID("a")
	t1, t2 := time.Unix(100, 0), time.Unix(200, 0)
	written, err := block.MarkDeletion(t.Context(), b, id, "first", t1)
	require.NoError(t, err)
	require.True(t, written)
	written, err = block.MarkDeletion(t.Context(), b, id, "second", t2)
	require.NoError(t, err)
	require.False(t, written)
	var m block.DeletionMark
	require.NoError(t, block.ReadMark(t.Context(), b, id, &m))
	require.Equal(t, block.DeletionMark{ID: id, Version: 1, Details: "first", DeletionTime: 100}, m)
	raw, err := bucket.ReadAll(t.Context(), b, block.Path(id, "deletion-mark.json"), 1000)
	require.NoError(t, err)
	require.Equal(t, `{"id":"`+id.String()+`","version":1,"details":"first","deletion_time":100}`, string(raw))

	why := block.Cause{Reason: block.MarkOutOfOrderChunk, Details: "x"}
	_, err = block.MarkNoCompact(t.Context(), b, id, why, t1)
	require.NoError(t, err)
	raw, err = bucket.ReadAll(t.Context(), b, block.Path(id, "no-compact-mark.json"), 1000)
	require.NoError(t, err)
	require.Equal(t, `{"id":"`+id.String()+`","version":1,"details":"x","no_compact_time":100,"reason":"block-index-out-of-order-chunk"}`, string(raw))
	_, err = block.MarkNoDownsample(t.Context(), b, id, block.Cause{Reason: block.MarkManual}, t1)
	require.NoError(t, err)
	raw, err = bucket.ReadAll(t.Context(), b, block.Path(id, "no-downsample-mark.json"), 1000)
	require.NoError(t, err)
	require.Equal(t, `{"id":"`+id.String()+`","version":1,"no_downsample_time":100,"reason":"manual"}`, string(raw))

	require.NoError(t, b.Delete(t.Context(), block.Path(id, block.DeletionMarkFile)))
	require.ErrorIs(t, block.ReadMark(t.Context(), b, id, &m), bucket.ErrNotFound)

	// A mark replaces an object that is none.
	require.NoError(t, b.Upload(t.Context(), block.Path(id, block.DeletionMarkFile), strings.NewReader("{"), 1))
	written, err = block.MarkDeletion(t.Context(), b, id, "third", t2)
	require.NoError(t, err)
	require.True(t, written)
}

const fullMeta = `{
	"ulid": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "minTime": 1, "maxTime": 7200000,
	"stats": {"numSamples": 5, "numFloatSamples": 4, "numHistogramSamples": 1, "numSeries": 2, "numChunks": 3, "numTombstones": 1},
	"compaction": {"level": 2, "sources": ["01ARZ3NDEKTSV4RRFFQ69G5FAV"], "failed": true, "deletable": true,
		"parents": [{"ulid": "01ARZ3NDEKTSV4RRFFQ69G5FAA", "minTime": 1, "maxTime": 2}], "hints": ["from-out-of-order"]},
	"version": 1, "futureTop": {"a": [1, 2.50, 12345678901234567890]},
	"thanos": {
		"version": 1, "labels": {"a": "b"}, "downsample": {"resolution": 300000}, "source": "compactor",
		"segment_files": ["000001"], "files": [{"rel_path": "index", "size_bytes": 7, "hash": {"hashFunc": "SHA256", "value": "00"}}],
		"rewrites": [{"sources": ["01ARZ3NDEKTSV4RRFFQ69G5FAV"], "deletions_applied": [{"matchers": "x"}]}],
		"index_stats": {"series_max_size": 9, "chunk_max_size": 8}, "extensions": {"parquet_migrated": true, "x": 1},
		"upload_time": "2026-01-02T03:04:05Z", "future_key": "kept", "another": null
	}
}`

func TestMeta_KeepsUnknownKeys(t *testing.T) {
	m, err := block.ParseMeta([]byte(fullMeta))
	require.NoError(t, err)
	m = m.Clone()
	out, err := m.Encode()
	require.NoError(t, err)
	require.JSONEq(t, fullMeta, string(out))
	require.Contains(t, string(out), "12345678901234567890")
	require.True(t, strings.HasPrefix(string(out), "{\n\t\"ulid\": "))
	require.True(t, strings.HasSuffix(string(out), "\n}\n"))
	again, err := block.ParseMeta(out)
	require.NoError(t, err)
	second, err := again.Encode()
	require.NoError(t, err)
	require.Equal(t, string(out), string(second))

	// The unknown keys of a copy do not follow changes of the original.
	m.Thanos.Labels["a"] = "changed"
	require.Equal(t, "b", again.Thanos.Labels["a"])
}

func TestParseMeta_AcceptsMetaOfPrometheus(t *testing.T) {
	m, err := block.ParseMeta([]byte(`{"ulid":"01ARZ3NDEKTSV4RRFFQ69G5FAV","minTime":1,"maxTime":2,"version":1,"compaction":{"level":1}}`))
	require.NoError(t, err)
	require.Empty(t, m.Thanos.Labels)
	out, err := m.Encode()
	require.NoError(t, err)
	var v struct {
		Thanos map[string]any `json:"thanos"`
	}
	require.NoError(t, json.Unmarshal(out, &v))
	require.Equal(t, map[string]any{
		"labels": map[string]any{}, "downsample": map[string]any{"resolution": 0.0}, "source": "",
		"index_stats": map[string]any{}, "upload_time": "0001-01-01T00:00:00Z",
	}, v.Thanos)
}

func TestParseMeta_RefusesMalformed(t *testing.T) {
	f := func(data string, want reason.Reason) {
		t.Helper()
		_, err := block.ParseMeta([]byte(data))
		require.Equal(t, want, block.ReasonOf(err), "%v", err)
	}
	const id = `"ulid":"01ARZ3NDEKTSV4RRFFQ69G5FAV"`
	f(``, reason.BlockMetaMalformed)
	f(`null`, reason.BlockMetaVersion)
	f(`[]`, reason.BlockMetaMalformed)
	f(fullMeta[:len(fullMeta)-3], reason.BlockMetaMalformed)
	f(`{"ulid":"x","version":1}`, reason.BlockMetaMalformed)
	f(`{`+id+`,"version":2}`, reason.BlockMetaVersion)
	f(`{`+id+`}`, reason.BlockMetaVersion)
	f(`{`+id+`,"version":1,"thanos":{"version":2}}`, reason.BlockMetaVersion)
	f(`{`+id+`,"version":1,"thanos":5}`, reason.BlockMetaMalformed)
	f(`{`+id+`,"version":1,"minTime":5,"maxTime":4}`, reason.BlockMetaMalformed)
	f(`{`+id+`,"version":1,"thanos":{"downsample":{"resolution":-1}}}`, reason.BlockMetaMalformed)
	f(`{`+id+`,"version":1,"thanos":null}`, "")
	external := func(labels string) string { return `{` + id + `,"version":1,"thanos":{"labels":{` + labels + `}}}` }
	f(external(`"a":"`+strings.Repeat("v", 64<<10)+`"`), reason.BlockMetaMalformed)
	f(external(`"a":"`+strings.Repeat("v", 32<<10)+`"`), "")
	many := `"a":"b"`
	for i := range 1000 {
		many += fmt.Sprintf(`,"n%d":""`, i)
	}
	f(external(many), reason.BlockMetaMalformed)
	f(external(`"":"x"`), reason.BlockMetaMalformed)
	f(external(`"":""`), "")

	b := bucket.NewMemory()
	other := ulid.MustParse("01ARZ3NDEKTSV4RRFFQ69G5FAB")
	require.NoError(t, b.Upload(t.Context(), block.Path(other, "meta.json"), strings.NewReader(fullMeta), -1))
	_, err := block.ReadMeta(t.Context(), b, other)
	require.Equal(t, reason.BlockMetaForeign, block.ReasonOf(err))
	require.ErrorContains(t, err, other.String())
	_, err = block.ReadMeta(t.Context(), b, blocktest.ID("none"))
	require.ErrorIs(t, err, bucket.ErrNotFound)
}

func TestParsePath(t *testing.T) {
	id, rel, ok := block.ParsePath("01ARZ3NDEKTSV4RRFFQ69G5FAV/chunks/000001")
	require.True(t, ok)
	require.Equal(t, "01ARZ3NDEKTSV4RRFFQ69G5FAV", id.String())
	require.Equal(t, "chunks/000001", rel)
	for _, bad := range []string{
		"", "/", "meta.json", "debug/metas/x", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01arz3ndektsv4rrffq69g5fav/index",
		"01ARZ3NDEKTSV4RRFFQ69G5FAV.tmp/index", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ/index", "01ARZ3NDEKTSV4RRFFQ69G5FA/index",
		"01ARZ3NDEKTSV4RRFFQ69G5FAU/index", "../01ARZ3NDEKTSV4RRFFQ69G5FAV/index",
	} {
		_, _, ok := block.ParsePath(bad)
		require.False(t, ok, bad)
	}
}

func FuzzParseMeta(f *testing.F) {
	f.Add([]byte(fullMeta))
	f.Add([]byte(`{"version":1,"thanos":{"labels":null,"LABELS":{"a":"b"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := block.ParseMeta(data)
		if err != nil {
			require.NotEmpty(t, block.ReasonOf(err))
			return
		}
		out, err := m.Encode()
		require.NoError(t, err)
		again, err := block.ParseMeta(out)
		require.NoError(t, err)
		second, err := again.Encode()
		require.NoError(t, err)
		require.Equal(t, string(out), string(second), "encoding is stable")
	})
}

func FuzzParseMark(f *testing.F) {
	id := ulid.MustParse("01ARZ3NDEKTSV4RRFFQ69G5FAV")
	f.Add([]byte(`{"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","version":1,"deletion_time":5}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, m := range []block.Mark{&block.DeletionMark{}, &block.NoCompactMark{}, &block.NoDownsampleMark{}} {
			if err := block.ParseMark(data, id, m); err != nil {
				require.Equal(t, reason.BlockMarkMalformed, block.ReasonOf(err))
			}
		}
	})
}
