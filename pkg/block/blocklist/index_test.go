package blocklist_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

const indexed = `
meta a labels={x="1"}
block b labels={x="1"}
  up 0s:1
meta c labels={x="1"} resolution=5m sources=p,q
mark a deletion at=1h details=why
mark b no-compact
mark c no-downsample
`

// writeIndex polls the bucket and writes its index.
func writeIndex(t *testing.T, b bucket.Bucket) *blocklist.View {
	t.Helper()
	p := blocklist.NewPoller(b, blocklist.Config{})
	v, err := p.Poll(t.Context())
	require.NoError(t, err)
	require.NoError(t, p.WriteIndex(t.Context(), b))
	return v
}

func TestReadIndex_LearnsTheBucketWithOneGet(t *testing.T) {
	mem := blocktest.Bucket(t, indexed)
	put(t, mem, block.Path(blocktest.ID("broken"), block.MetaFile), "{")
	put(t, mem, block.Path(blocktest.ID("a"), block.NoCompactMarkFile), "garbage")
	want := writeIndex(t, mem)

	f := buckettest.NewFaulty(mem, nil)
	p := blocklist.NewPoller(f, blocklist.Config{})
	got, err := p.ReadIndex(t.Context(), time.Hour)
	require.NoError(t, err)
	require.Equal(t, []buckettest.Op{{Kind: "get", Name: blocklist.IndexName, N: 1}}, f.Calls(true))
	require.Equal(t, want.Taken.UnixNano(), got.Taken.UnixNano())
	got.Taken = want.Taken
	require.Equal(t, want, got)

	// The first listing finds no changes and reads no object.
	v, lists, gets := costs(t, p, f)
	require.Equal(t, []int{1, 0}, []int{lists, gets})
	require.Len(t, v.Metas, 3)
	require.NoError(t, p.WriteIndex(t.Context(), f))
	require.Zero(t, f.Count("upload"), "nothing has changed")
}

// A columns object is one of the objects of its block, with a size that its name tells where the
// listing does not; the index has it too.
func TestPoll_KnowsColumnsObject(t *testing.T) {
	id := blocktest.ID("a")
	dir := filepath.Join(blocktest.Dir(t, "block a labels={x=\"1\"}\n up 0s:1\n"), id.String())
	mem := bucket.NewMemory()
	var columns int64
	m, err := block.Upload(t.Context(), mem, dir, block.UploadConfig{Columns: true, ColumnsUploaded: func(n int64) { columns = n }})
	require.NoError(t, err)
	require.Positive(t, columns)
	files := m.Thanos.Files[0].SizeBytes + m.Thanos.Files[1].SizeBytes
	for _, b := range []bucket.Bucket{mem, unlisted{mem}} {
		v := writeIndex(t, b)
		require.Len(t, v.Sizes[id], 4)
		require.Equal(t, files+columns, v.Bytes(id)-max(v.Sizes[id][block.MetaFile], 0))
		again, err := blocklist.NewPoller(b, blocklist.Config{}).ReadIndex(t.Context(), time.Hour)
		require.NoError(t, err)
		require.Equal(t, v.Sizes, again.Sizes)
	}
}

// Writers that do not know the index are seen.
func TestReadIndex_NextPollCorrectsIt(t *testing.T) {
	mem := blocktest.Bucket(t, indexed)
	writeIndex(t, mem)
	blocktest.Fill(t, mem, "meta d labels={x=\"1\"}\nmark b deletion at=2h\n")
	require.NoError(t, block.Delete(t.Context(), mem, blocktest.ID("a")))
	m, err := block.ReadMeta(t.Context(), mem, blocktest.ID("c"))
	require.NoError(t, err)
	m.Thanos.Labels["x"] = "2"
	require.NoError(t, blocktest.PutMeta(t.Context(), mem, m))
	mem.SetModified(block.Path(m.ULID, block.MetaFile), time.Now().Add(time.Second))

	fresh, err := blocklist.NewPoller(mem, blocklist.Config{}).Poll(t.Context())
	require.NoError(t, err)
	f := buckettest.NewFaulty(mem, nil)
	p := blocklist.NewPoller(f, blocklist.Config{})
	_, err = p.ReadIndex(t.Context(), time.Hour)
	require.NoError(t, err)
	v, lists, gets := costs(t, p, f)
	require.Equal(t, []int{1, 3}, []int{lists, gets}, "a new meta, a changed meta, a new mark")
	v.Taken = fresh.Taken
	require.Equal(t, fresh, v)

	require.NoError(t, p.WriteIndex(t.Context(), f))
	require.Equal(t, 1, f.Count("upload"))
}

// Older versions wrote reasons with dashes.
func TestReadIndex_ReadsReasonsOfOlderVersions(t *testing.T) {
	mem := bucket.NewMemory()
	var lines strings.Builder
	for name, old := range map[string]string{
		"a": "meta-missing", "b": "meta-malformed", "c": "meta-refused", "d": "meta-version", "e": "meta-of-other-block",
	} {
		fmt.Fprintf(&lines, `{"id":%q,"objects":[{"name":"meta.json","size":1,"modified":5}],"partial":{"reason":%q,"error":"x"}}`+"\n",
			blocktest.ID(name), old)
	}
	put(t, mem, blocklist.IndexName, string(zipped(t, header(5)+lines.String())))
	v, err := blocklist.NewPoller(mem, blocklist.Config{}).ReadIndex(t.Context(), time.Hour)
	require.NoError(t, err)
	require.Equal(t, reason.BlockMetaMissing, v.Partial[blocktest.ID("a")].Reason)
	require.Equal(t, reason.BlockMetaMalformed, v.Unusable[blocktest.ID("b")].Reason)
	require.Equal(t, reason.BlockMetaRefused, v.Unusable[blocktest.ID("c")].Reason)
	require.Equal(t, reason.BlockMetaVersion, v.Unusable[blocktest.ID("d")].Reason)
	require.Equal(t, reason.BlockMetaForeign, v.Unusable[blocktest.ID("e")].Reason)
}

func TestReadIndex_RefusesUnusableIndex(t *testing.T) {
	mem := blocktest.Bucket(t, indexed)
	f := buckettest.NewFaulty(mem, nil)
	p := blocklist.NewPoller(f, blocklist.Config{})
	_, err := p.ReadIndex(t.Context(), time.Hour)
	require.ErrorIs(t, err, blocklist.ErrNoIndex)
	require.NoError(t, p.WriteIndex(t.Context(), f), "nothing is known, nothing is written")
	require.Zero(t, f.Count("upload"))

	writeIndex(t, mem)
	_, err = p.ReadIndex(t.Context(), 0)
	require.ErrorIs(t, err, blocklist.ErrNoIndex, "too old")
	good, err := bucket.ReadAll(t.Context(), mem, blocklist.IndexName, 1<<20)
	require.NoError(t, err)
	bad := func(data []byte) {
		t.Helper()
		put(t, mem, blocklist.IndexName, string(data))
		_, err := p.ReadIndex(t.Context(), time.Hour)
		require.ErrorIs(t, err, blocklist.ErrNoIndex)
	}
	for n := 0; n < len(good); n += 7 {
		bad(good[:n])
	}
	id := blocktest.ID("a").String()
	for _, text := range []string{
		"", "{}\n", `{"version":2,"blocks":0}` + "\n", `{"version":1,"taken":"2026-01-01T00:00:00Z","blocks":1}` + "\n",
		`{"version":1,"blocks":0}`, header(1) + "{}\n", header(1) + `{"id":"` + id + `"}` + "\n",
		header(1) + `{"id":"` + id + `","meta":{"version":1}}` + "\n",
		header(1) + `{"id":"` + id + `","meta":{"ulid":"` + id + `","version":2}}` + "\n",
		header(1) + `{"id":"` + id + `","meta":{"ulid":"` + id + `","version":1},"partial":{}}` + "\n",
		header(0) + `{"id":"` + id + `","partial":{}}` + "\n",
	} {
		bad(zipped(t, text))
	}
	f.SetRule(func(buckettest.Op) buckettest.Fault { return buckettest.Fault{Err: buckettest.ErrInjected} })
	_, err = p.ReadIndex(t.Context(), time.Hour)
	require.ErrorIs(t, err, buckettest.ErrInjected)
	require.NotErrorIs(t, err, blocklist.ErrNoIndex)
	put(t, mem, blocklist.IndexName, string(good))
	f.SetRule(func(buckettest.Op) buckettest.Fault {
		return buckettest.Fault{CutAt: 100, Err: errors.New("connection reset")}
	})
	_, err = p.ReadIndex(t.Context(), time.Hour)
	require.ErrorContains(t, err, "connection reset")
	require.NotErrorIs(t, err, blocklist.ErrNoIndex)

	// A poll does not depend on the index.
	f.SetRule(nil)
	v, _, _ := costs(t, p, f)
	require.Len(t, v.Metas, 3)
}

func header(n int) string {
	return fmt.Sprintf(`{"version":1,"taken":%q,"blocks":%d}`+"\n", time.Now().Format(time.RFC3339), n)
}

func zipped(t testing.TB, text string) []byte {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, err := io.Copy(z, strings.NewReader(text))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	return buf.Bytes()
}

// FuzzReadIndex reads indexes of any content and then polls: an index counts
// until the first poll only.
func FuzzReadIndex(f *testing.F) {
	id := blocktest.ID("a").String()
	f.Add(header(1) + `{"id":"` + id + `","objects":[{"name":"index","size":1,"modified":5}],"meta":{"ulid":"` + id + `","version":1}}` + "\n")
	f.Add(header(1) + `{"id":"` + id + `","partial":{"reason":"x"},"deletion":{}}` + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		mem := bucket.NewMemory()
		put(t, mem, blocklist.IndexName, string(zipped(t, text)))
		p := blocklist.NewPoller(mem, blocklist.Config{})
		_, err := p.ReadIndex(t.Context(), time.Hour)
		if err != nil {
			require.ErrorIs(t, err, blocklist.ErrNoIndex)
		}
		v, err := p.Poll(t.Context())
		require.NoError(t, err)
		require.Empty(t, v.Metas)
		require.Empty(t, v.Partial)
		require.Empty(t, v.Unusable)
	})
}
