package bucketadmin_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/bucketadmin"
)

var update = flag.Bool("update", false, "write the results into testdata")

func view(t *testing.T, bkt bucket.Reader) *blocklist.View {
	t.Helper()
	v, err := blocklist.NewPoller(bkt, blocklist.Config{}).Poll(t.Context())
	require.NoError(t, err)
	return v
}

// names returns the names of the blocks of the texts by their ULIDs.
func names(t *testing.T, texts ...string) *strings.Replacer {
	t.Helper()
	var pairs []string
	for _, text := range texts {
		spec, err := blocktest.Parse(text)
		require.NoError(t, err)
		for _, b := range spec.Blocks {
			pairs = append(pairs, b.Meta.ULID.String(), b.Name)
		}
	}
	return strings.NewReplacer(pairs...)
}

// golden runs f on each section "# <title>" of a file: blocks, "---", the result.
func golden(t *testing.T, file string, f func(t *testing.T, in string) string) {
	path := filepath.Join("testdata", file)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var out bytes.Buffer
	for _, section := range strings.Split(string(data), "\n# ") {
		title, rest, _ := strings.Cut(strings.TrimPrefix(section, "# "), "\n")
		in, want, _ := strings.Cut(rest, "---\n")
		got := f(t, in)
		if out.Len() > 0 {
			out.WriteString("\n")
		}
		fmt.Fprintf(&out, "# %s\n%s---\n%s", title, in, got)
		if !*update {
			require.Equal(t, strings.TrimSpace(want), strings.TrimSpace(got), title)
		}
	}
	if *update {
		require.NoError(t, os.WriteFile(path, out.Bytes(), 0o644))
	}
}

func TestChecks(t *testing.T) {
	golden(t, "checks.txt", func(t *testing.T, in string) string {
		v := view(t, blocktest.Bucket(t, in))
		var out strings.Builder
		for _, f := range append(bucketadmin.CheckOverlaps(v), bucketadmin.CheckDuplicates(v)...) {
			fmt.Fprintf(&out, "%s %s %s: %s\n", f.Block, f.Issue, f.Kind, f.Details)
		}
		return names(t, in).Replace(out.String())
	})
}

func TestCopies(t *testing.T) {
	golden(t, "copies.txt", func(t *testing.T, in string) string {
		source, target, _ := strings.Cut(in, "target\n")
		tb := blocktest.Bucket(t, target)
		// A block "deleting" has lost its meta.json.
		require.NoError(t, tb.Delete(t.Context(), block.Path(blocktest.ID("deleting"), block.MetaFile)))
		sel := &bucketadmin.Selection{
			Resolutions: []int64{block.ResolutionRaw, block.Resolution5m}, Levels: []int{1, 2},
			Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchNotEqual, "cluster", "us")},
			MinTime:  0, MaxTime: math.MaxInt64, IgnoreMarked: true,
		}
		var out strings.Builder
		for _, c := range bucketadmin.Copies(sel, view(t, blocktest.Bucket(t, source)), view(t, tb)) {
			fmt.Fprintf(&out, "%s: %s\n", c.Meta.ULID, c.Done)
		}
		return names(t, source, target).Replace(out.String())
	})
}

func TestCheckSizes(t *testing.T) {
	m := &block.Meta{}
	m.ULID = ulid.MustNew(1, nil)
	m.Stats.NumChunks = 1
	kinds := func(sizes map[string]int64) (out []string) {
		for _, f := range bucketadmin.CheckSizes(m, sizes) {
			out = append(out, f.Kind+" "+f.Details)
		}
		return out
	}
	require.Empty(t, kinds(map[string]int64{"index": 5, "chunks/000001": 7}))
	require.Len(t, kinds(map[string]int64{"chunks/": 0}), 2, "no index, no segment")
	m.Thanos.SegmentFiles = []string{"000001", "000002"}
	require.Equal(t, []string{"file_missing 1 of at least 2 chunk segments are in the bucket"}, kinds(map[string]int64{"index": 5, "chunks/000001": 7}))
	m.Thanos.Files = []block.File{{RelPath: "chunks/000001", SizeBytes: 7}, {RelPath: "index", SizeBytes: 5}, {RelPath: "meta.json"}}
	require.Empty(t, kinds(map[string]int64{"index": 5, "chunks/000001": -1}), "an unknown size is not compared")
	require.Equal(t, []string{"size_mismatch index has 4 bytes, meta.json says 5"}, kinds(map[string]int64{"index": 4, "chunks/000001": 7}))
	require.Equal(t, []string{"file_missing chunks/000001 is not in the bucket"}, kinds(map[string]int64{"index": 5}))
}

const wholeBlock = `
block a range=0h..2h labels={cluster="eu"} level=1
  up{job="j"}  0h..2h/1m:1+1
`

// A copy that fails at the n-th request, before or after its effect, never makes a block
// visible that lacks objects, and the next copy completes it.
func TestCopyBlock_SurvivesInterruptions(t *testing.T) {
	from := blocktest.Bucket(t, wholeBlock)
	v := view(t, from)
	id := blocktest.ID("a")
	for at := 0; ; at++ {
		to := bucket.NewMemory()
		n := 0
		faulty := buckettest.NewFaulty(to, func(buckettest.Op) buckettest.Fault {
			if n++; n > at {
				return buckettest.Fault{Err: buckettest.ErrInjected}
			}
			return buckettest.Fault{}
		})
		_, err := bucketadmin.CopyBlock(t.Context(), from, faulty, id, v.Sizes[id])
		got := view(t, to)
		if got.Metas[id] != nil {
			require.Empty(t, bucketadmin.CheckSizes(got.Metas[id], got.Sizes[id]))
		}
		copied, err2 := bucketadmin.CopyBlock(t.Context(), from, to, id, v.Sizes[id])
		require.NoError(t, err2)
		require.Equal(t, content(t, from), content(t, to), "interrupted at %d", at)
		if err == nil {
			require.Greater(t, at, 6)
			require.Less(t, copied, v.Sizes[id]["index"]+v.Sizes[id][block.MetaFile], "only meta.json is copied again")
			return
		}
	}
}

// TestCopyBlock_CopiesColumns: the copy has the columns object of the block, unless an upload that
// failed has left one that no reader uses.
func TestCopyBlock_CopiesColumns(t *testing.T) {
	from := bucket.NewMemory()
	id := blocktest.ID("a")
	_, err := block.Upload(t.Context(), from, filepath.Join(blocktest.Dir(t, wholeBlock), id.String()), block.UploadConfig{Columns: true})
	require.NoError(t, err)
	sizes := view(t, from).Sizes[id]
	require.Len(t, sizes, 4)
	require.Empty(t, bucketadmin.CheckSizes(view(t, from).Metas[id], sizes), "no fault")
	to := bucket.NewMemory()
	copied, err := bucketadmin.CopyBlock(t.Context(), from, to, id, sizes)
	require.NoError(t, err)
	require.Equal(t, content(t, from), content(t, to))
	require.Equal(t, view(t, from).Bytes(id), copied)

	whole := content(t, to)
	for name := range whole {
		if _, rel, _ := block.ParsePath(name); rel != block.IndexFile && rel != block.MetaFile && rel != block.SegmentName(1) {
			require.NoError(t, from.Upload(t.Context(), name, strings.NewReader("half"), 4))
			delete(whole, name)
		}
	}
	require.Len(t, whole, 3)
	to = bucket.NewMemory()
	_, err = bucketadmin.CopyBlock(t.Context(), from, to, id, view(t, from).Sizes[id])
	require.NoError(t, err)
	require.Equal(t, whole, content(t, to))
	// A backup is all that there is.
	to = bucket.NewMemory()
	require.NoError(t, bucketadmin.Backup(t.Context(), from, to, id))
	require.Equal(t, content(t, from), content(t, to))
}

func content(t *testing.T, b bucket.Reader) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, b.List(t.Context(), "", func(o bucket.Object) error {
		data, err := bucket.ReadAll(t.Context(), b, o.Name, 1<<20)
		out[o.Name] = string(data)
		return err
	}))
	return out
}

// truncating answers with less than the whole object.
type truncating struct{ bucket.Bucket }

func (b truncating) Upload(ctx context.Context, name string, r io.Reader, _ int64) error {
	return b.Bucket.Upload(ctx, name, io.LimitReader(r, 10), 10)
}

func TestCopyBlock_RefusesWhatIsNotWhole(t *testing.T) {
	from := blocktest.Bucket(t, wholeBlock)
	id := blocktest.ID("a")
	sizes := view(t, from).Sizes[id]
	to := bucket.NewMemory()
	_, err := bucketadmin.CopyBlock(t.Context(), from, truncating{to}, id, sizes)
	require.ErrorContains(t, err, "has 10 bytes instead of")
	require.Empty(t, view(t, to).Metas)

	less := maps.Clone(sizes)
	delete(less, block.SegmentName(1))
	_, err = bucketadmin.CopyBlock(t.Context(), from, to, id, less)
	require.ErrorContains(t, err, "is damaged: chunks/000001 is not in the bucket")
	require.NoError(t, from.Delete(t.Context(), block.Path(id, block.IndexFile)))
	_, err = bucketadmin.CopyBlock(t.Context(), from, to, id, sizes)
	require.ErrorIs(t, err, bucket.ErrNotFound)
	require.Empty(t, view(t, to).Metas)
}

func TestCheckBlock(t *testing.T) {
	bkt := blocktest.Bucket(t, wholeBlock)
	id := blocktest.ID("a")
	m := *view(t, bkt).Metas[id]
	dir := t.TempDir()
	found, err := bucketadmin.CheckBlock(t.Context(), bkt, &m, dir)
	require.NoError(t, err)
	require.Empty(t, found)

	m.Stats.NumSeries, m.Stats.NumChunks = 7, 9
	m.MinTime, m.MaxTime = 3600_000, 7200_000
	require.NoError(t, blocktest.PutMeta(t.Context(), bkt, &m))
	found, err = bucketadmin.CheckBlock(t.Context(), bkt, &m, dir)
	require.NoError(t, err)
	var kinds []string
	for _, f := range found {
		require.True(t, f.Damage)
		kinds = append(kinds, f.Kind)
	}
	require.Equal(t, []string{"chunk_outside_of_block", "stats_mismatch", "stats_mismatch"}, kinds)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "the download is removed")

	require.NoError(t, block.Delete(t.Context(), bkt, id))
	_, err = bucketadmin.CheckBlock(t.Context(), bkt, &m, dir)
	require.ErrorIs(t, err, bucket.ErrNotFound)
}

// TestCheckBlock_DecodesSamples puts a sample out of order into a chunk with a sound checksum.
func TestCheckBlock_DecodesSamples(t *testing.T) {
	chk := chunkenc.NewXORChunk()
	app, err := chk.Appender()
	require.NoError(t, err)
	for _, at := range []int64{1000, 3000, 2000, 4000} {
		app.Append(0, at, 1)
	}
	m := &block.Meta{}
	m.ULID, m.MaxTime, m.Thanos.Labels = blocktest.ID("a"), 7_200_000, map[string]string{"cluster": "eu"}
	dir := filepath.Join(t.TempDir(), m.ULID.String())
	require.NoError(t, blocktest.Write(t.Context(), dir, m, []blocktest.Series{{
		Labels: labels.FromStrings("__name__", "up"), Chunks: []chunks.Meta{{MinTime: 1000, MaxTime: 4000, Chunk: chk}},
	}}))
	bkt := bucket.NewMemory()
	_, err = block.Upload(t.Context(), bkt, dir, block.UploadConfig{})
	require.NoError(t, err)
	found, err := bucketadmin.CheckBlock(t.Context(), bkt, view(t, bkt).Metas[m.ULID], t.TempDir())
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, "sample_times_wrong", found[0].Kind)
	require.True(t, found[0].Damage)
	require.Contains(t, found[0].Details, `series {__name__="up"}, chunk 1 of 1: `)
	require.Contains(t, found[0].Details, "sample 3 at 2000 follows one at 3000")
}

// A bit that flips in one download is no damage of the block.
func TestCheckBlock_ConfirmsDamage(t *testing.T) {
	bkt := blocktest.Bucket(t, wholeBlock)
	id := blocktest.ID("a")
	for _, rel := range []string{block.IndexFile, block.SegmentName(1)} {
		flips := 0
		faulty := buckettest.NewFaulty(bkt, func(op buckettest.Op) buckettest.Fault {
			if op.Name != block.Path(id, rel) || op.Kind != "get_range" || flips > 0 {
				return buckettest.Fault{}
			}
			flips++
			return buckettest.Fault{Flip: 20}
		})
		found, err := bucketadmin.CheckBlock(t.Context(), faulty, view(t, bkt).Metas[id], t.TempDir())
		require.NoError(t, err)
		require.Equal(t, 1, flips, rel)
		require.Empty(t, found, rel)
	}
}

func TestSortRows(t *testing.T) {
	v := view(t, blocktest.Bucket(t, `
meta a range=0h..100h labels={x="1"} series=9
meta b range=0h..9h labels={x="2"} series=10
meta c range=0h..9h labels={x="3"} series=9
`))
	order := func(by ...string) (out []string) {
		rows := bucketadmin.Rows(v, nil)
		require.NoError(t, bucketadmin.SortRows(rows, by))
		for _, r := range rows {
			out = append(out, r.Labels["x"])
		}
		return out
	}
	require.Equal(t, []string{"2", "3", "1"}, order("RANGE"), "by length, not as text")
	require.Equal(t, []string{"3", "1", "2"}, order("#series", "RANGE"))
	require.Equal(t, []string{"1", "2", "3"}, order("UNTIL-DOWN"))
	require.ErrorContains(t, bucketadmin.SortRows(nil, []string{"x"}), "UNTIL-DOWN")
	require.True(t, slices.Contains(bucketadmin.Columns(), "UNTIL-DOWN"))
}
