package blocklist_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

func put(t *testing.T, b bucket.Bucket, name, content string) {
	t.Helper()
	require.NoError(t, b.Upload(t.Context(), name, strings.NewReader(content), int64(len(content))))
}

// costs polls once and returns the view, the number of listings and of GETs.
func costs(t *testing.T, p *blocklist.Poller, f *buckettest.Faulty) (v *blocklist.View, lists, gets int) {
	t.Helper()
	f.Calls(true)
	v, err := p.Poll(t.Context())
	require.NoError(t, err)
	require.Zero(t, f.Count("get_range"))
	require.LessOrEqual(t, f.Count("stat"), 1, "only for a block that is no longer listed")
	return v, f.Count("list"), f.Count("get")
}

// unlisted hides sizes and times from listings, as some providers do.
type unlisted struct{ bucket.Bucket }

func (u unlisted) List(ctx context.Context, dir string, f func(bucket.Object) error) error {
	return u.Bucket.List(ctx, dir, func(o bucket.Object) error { return f(bucket.Object{Name: o.Name, Size: -1}) })
}

func TestPoll_AcceptsListingWithoutSizesAndTimes(t *testing.T) {
	mem := blocktest.Bucket(t, "block a labels={x=\"1\"}\n up 0s:1\nmeta c labels={x=\"1\"}\n")
	a, b := blocktest.ID("a"), blocktest.ID("b")
	put(t, mem, block.Path(b, block.MetaFile), "{")
	var logs bytes.Buffer
	f := buckettest.NewFaulty(unlisted{mem}, nil)
	p := blocklist.NewPoller(f, blocklist.Config{Logger: slog.New(slog.NewTextHandler(&logs, nil))})
	v, _, gets := costs(t, p, f)
	require.Equal(t, 4, gets, "the broken one twice")
	o, err := mem.Stat(t.Context(), block.Path(a, block.IndexFile))
	require.NoError(t, err)
	require.Equal(t, o.Size, v.Sizes[a][block.IndexFile], "from meta.json")
	require.Equal(t, int64(-1), v.Sizes[blocktest.ID("c")][block.IndexFile])
	require.WithinDuration(t, ulid.Time(b.Time()), v.Unusable[b].LastModified, 0)
	require.Contains(t, logs.String(), b.String())
	logs.Reset()

	_, _, gets = costs(t, p, f)
	require.Equal(t, 2, gets, "only the broken one, whose repair no listing would show")
	require.Empty(t, logs.String())
	blocktest.Fill(t, mem, "meta b labels={x=\"1\"}\n")
	v, _, _ = costs(t, p, f)
	require.Len(t, v.Metas, 3)
	_, lists, gets := costs(t, p, f)
	require.Equal(t, []int{1, 0}, []int{lists, gets})
}

// A byte of meta.json and of each mark is wrong in the first answer only. The objects do not
// change, so later polls do not read them: the wrong answers must not count.
func TestPoll_ReadsMalformedObjectsTwice(t *testing.T) {
	mem := blocktest.Bucket(t, "meta a labels={x=\"1\"}\nmark a deletion at=1h\nmark a no-compact reason=manual\nmark a no-downsample reason=manual\n")
	a, seen := blocktest.ID("a"), map[string]bool{}
	f := buckettest.NewFaulty(mem, func(op buckettest.Op) buckettest.Fault {
		if op.Kind != "get" || seen[op.Name] {
			return buckettest.Fault{}
		}
		seen[op.Name] = true
		return buckettest.Fault{Flip: 1} // no JSON
	})
	v, _, gets := costs(t, blocklist.NewPoller(f, blocklist.Config{}), f)
	require.Equal(t, 8, gets)
	require.Empty(t, v.Unusable)
	require.NotNil(t, v.Metas[a])
	require.NotNil(t, v.Deletion[a])
	require.Equal(t, "manual", v.NoCompact[a].Reason)
	require.Equal(t, "manual", v.NoDownsample[a].Reason)
}

func TestPoll_ReadsOnlyNewObjects(t *testing.T) {
	mem := blocktest.Bucket(t, `
meta a labels={x="1"}
meta b labels={x="1"}
mark b deletion at=1h
`)
	f := buckettest.NewFaulty(mem, nil)
	p := blocklist.NewPoller(f, blocklist.Config{})
	a, b, c := blocktest.ID("a"), blocktest.ID("b"), blocktest.ID("c")

	v, lists, gets := costs(t, p, f)
	require.Equal(t, []int{1, 3}, []int{lists, gets})
	require.Len(t, v.Metas, 2)
	require.Equal(t, int64(3600), v.Deletion[b].DeletionTime)
	require.Equal(t, int64(0), v.Sizes[a]["index"])
	require.Positive(t, v.Sizes[a]["meta.json"])

	again, lists, gets := costs(t, p, f)
	require.Equal(t, []int{1, 0}, []int{lists, gets})
	require.Same(t, v.Metas[a], again.Metas[a])

	// A new block, a new mark.
	blocktest.Fill(t, mem, "meta c labels={x=\"1\"}\nmark a no-compact\n")
	v, lists, gets = costs(t, p, f)
	require.Equal(t, []int{1, 2}, []int{lists, gets})
	require.Contains(t, v.Metas, c)
	require.Contains(t, v.NoCompact, a)
	require.NotContains(t, again.Metas, c, "a view never changes")

	// A mark is removed, a meta.json is rewritten.
	require.NoError(t, mem.Delete(t.Context(), block.Path(b, block.DeletionMarkFile)))
	m := v.Metas[a].Clone()
	m.Thanos.Labels["x"] = "2"
	require.NoError(t, blocktest.PutMeta(t.Context(), mem, m))
	mem.SetModified(block.Path(a, block.MetaFile), time.Now().Add(time.Hour))
	v, lists, gets = costs(t, p, f)
	require.Equal(t, []int{1, 1}, []int{lists, gets})
	require.Empty(t, v.Deletion)
	require.Equal(t, "2", v.Metas[a].Thanos.Labels["x"])

	// A block is deleted.
	require.NoError(t, block.Delete(t.Context(), mem, b))
	v, lists, gets = costs(t, p, f)
	require.Equal(t, []int{1, 0}, []int{lists, gets})
	require.NotContains(t, v.Metas, b)
	require.Empty(t, v.Partial)
}

func TestPoll_IgnoresObjectsOutsideBlocks(t *testing.T) {
	mem := blocktest.Bucket(t, "meta a labels={x=\"1\"}\n")
	for _, name := range []string{
		"debug/metas/x.json", "meta.json", "readme", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01arz3ndektsv4rrffq69g5fav/meta.json",
		"team/01ARZ3NDEKTSV4RRFFQ69G5FAV/meta.json", "01ARZ3NDEKTSV4RRFFQ69G5FAV.tmp/meta.json",
		blocktest.ID("only-marker").String() + "/", blocktest.ID("only-marker").String() + "/chunks/",
	} {
		put(t, mem, name, "{")
	}
	f := buckettest.NewFaulty(mem, nil)
	v, lists, gets := costs(t, blocklist.NewPoller(f, blocklist.Config{}), f)
	require.Equal(t, []int{1, 1}, []int{lists, gets})
	require.Len(t, v.Metas, 1)
	require.Empty(t, v.Partial)
}

// TestPoll_ExcludesBrokenBlocksOnly also checks that they are logged once.
func TestPoll_ExcludesBrokenBlocksOnly(t *testing.T) {
	mem := blocktest.Bucket(t, `
meta good labels={x="1"}
meta badmarks labels={x="1"}
meta copied labels={x="1"}
`)
	meta := func(name string) string { return block.Path(blocktest.ID(name), block.MetaFile) }
	put(t, mem, block.Path(blocktest.ID("half"), "chunks/000001"), "x")
	mem.SetModified(block.Path(blocktest.ID("half"), "chunks/000001"), time.Unix(500, 0))
	put(t, mem, meta("garbage"), "{")
	put(t, mem, meta("version"), `{"ulid":"`+blocktest.ID("version").String()+`","version":7}`)
	put(t, mem, meta("other"), `{"ulid":"`+blocktest.ID("good").String()+`","version":1}`)
	put(t, mem, meta("huge"), strings.Repeat(" ", block.MaxMetaSize+1))
	put(t, mem, meta("marked"), "{")
	put(t, mem, block.Path(blocktest.ID("marked"), block.DeletionMarkFile), `{"id":"`+blocktest.ID("marked").String()+`","version":1,"deletion_time":7}`)
	put(t, mem, block.Path(blocktest.ID("leftover"), block.DeletionMarkFile), `{"id":"`+blocktest.ID("leftover").String()+`","version":1,"deletion_time":7}`)
	for _, mark := range []string{block.DeletionMarkFile, block.NoCompactMarkFile, block.NoDownsampleMarkFile} {
		put(t, mem, block.Path(blocktest.ID("badmarks"), mark), "garbage")
	}
	put(t, mem, block.Path(blocktest.ID("copied"), block.DeletionMarkFile), `{"id":"`+blocktest.ID("good").String()+`","version":1,"deletion_time":7}`)

	var logs bytes.Buffer
	reg := prometheus.NewRegistry()
	f := buckettest.NewFaulty(mem, nil)
	p := blocklist.NewPoller(f, blocklist.Config{Logger: slog.New(slog.NewTextHandler(&logs, nil)), Registerer: reg})
	v, _, _ := costs(t, p, f)

	require.Len(t, v.Metas, 3)
	reasons := func(m map[ulid.ULID]blocklist.Partial) map[string]string {
		out := map[string]string{}
		for id, p := range m {
			out[name(id)] = p.Reason.String()
		}
		return out
	}
	// Partial blocks may be deleted; unusable ones may hold data.
	require.Equal(t, map[string]string{"half": "meta_missing", "leftover": "meta_missing", "marked": "meta_malformed"}, reasons(v.Partial))
	require.Equal(t, map[string]string{
		"garbage": "meta_malformed", "version": "meta_version", "other": "meta_of_other_block", "huge": "meta_malformed",
	}, reasons(v.Unusable))
	require.Equal(t, time.Unix(500, 0), v.Partial[blocktest.ID("half")].LastModified)
	// An unreadable deletion mark is ignored; unreadable marks against compaction and
	// downsampling count.
	require.Len(t, v.Deletion, 2)
	require.Contains(t, v.Deletion, blocktest.ID("leftover"))
	require.Equal(t, "unreadable", v.NoCompact[blocktest.ID("badmarks")].Reason)
	require.Equal(t, "unreadable", v.NoDownsample[blocktest.ID("badmarks")].Reason)
	require.Equal(t, 4, v.BadMarks)
	for _, n := range []string{"garbage", "version", "other", "huge", "badmarks", "copied"} {
		require.Contains(t, logs.String(), blocktest.ID(n).String())
	}
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP hindsight_blocklist_partial_blocks Blocks in the bucket that cannot be used, by reason.
# TYPE hindsight_blocklist_partial_blocks gauge
hindsight_blocklist_partial_blocks{reason="meta_malformed"} 3
hindsight_blocklist_partial_blocks{reason="meta_missing"} 2
hindsight_blocklist_partial_blocks{reason="meta_of_other_block"} 1
hindsight_blocklist_partial_blocks{reason="meta_version"} 1
# HELP hindsight_blocklist_unreadable_marks Marks in the bucket that cannot be read. Such a deletion mark is ignored; the others are obeyed.
# TYPE hindsight_blocklist_unreadable_marks gauge
hindsight_blocklist_unreadable_marks 4
`), "hindsight_blocklist_partial_blocks", "hindsight_blocklist_unreadable_marks"))

	logs.Reset()
	_, lists, gets := costs(t, p, f)
	require.Equal(t, []int{1, 0}, []int{lists, gets}, "broken blocks are not read again")
	require.Empty(t, logs.String())

	// A repaired block appears.
	blocktest.Fill(t, mem, "meta garbage labels={x=\"1\"}\n")
	v, _, gets = costs(t, p, f)
	require.Equal(t, 1, gets)
	require.Len(t, v.Metas, 4)
}

func TestPoll_RepeatsOnlyFailedReads(t *testing.T) {
	mem := blocktest.Bucket(t, "meta a labels={x=\"1\"}\nmeta b labels={x=\"1\"}\nmark b deletion at=1h\n")
	broken := true
	f := buckettest.NewFaulty(mem, func(op buckettest.Op) buckettest.Fault {
		if broken && strings.HasPrefix(op.Name, blocktest.ID("b").String()) {
			return buckettest.Fault{Err: buckettest.ErrInjected}
		}
		return buckettest.Fault{}
	})
	p := blocklist.NewPoller(f, blocklist.Config{})
	_, err := p.Poll(t.Context())
	require.ErrorIs(t, err, buckettest.ErrInjected)
	require.ErrorContains(t, err, blocktest.ID("b").String())
	broken = false
	v, _, gets := costs(t, p, f)
	require.Equal(t, 2, gets, "block a is known already")
	require.Len(t, v.Metas, 2)
	require.Len(t, v.Deletion, 1)

	f.SetRule(func(op buckettest.Op) buckettest.Fault { return buckettest.Fault{Err: buckettest.ErrInjected} })
	_, err = p.Poll(t.Context())
	require.ErrorIs(t, err, buckettest.ErrInjected)
	f.SetRule(nil)
	_, lists, gets := costs(t, p, f)
	require.Equal(t, []int{1, 0}, []int{lists, gets}, "a failed listing forgets nothing")
}

// TestPoll_AcceptsBlockDeletedMeanwhile deletes a block between the listing and the read
// of its meta.json.
func TestPoll_AcceptsBlockDeletedMeanwhile(t *testing.T) {
	mem := blocktest.Bucket(t, "meta a labels={x=\"1\"}\nmeta b labels={x=\"1\"}\n")
	gone := true
	f := buckettest.NewFaulty(mem, func(op buckettest.Op) buckettest.Fault {
		if gone && op.Name == block.Path(blocktest.ID("a"), block.MetaFile) {
			return buckettest.Fault{Err: fmt.Errorf("x: %w", bucket.ErrNotFound)}
		}
		return buckettest.Fault{}
	})
	p := blocklist.NewPoller(f, blocklist.Config{})
	v, _, _ := costs(t, p, f)
	require.Len(t, v.Metas, 1)
	require.Equal(t, reason.BlockMetaMissing, v.Partial[blocktest.ID("a")].Reason)
	gone = false
	v, _, gets := costs(t, p, f)
	require.Equal(t, 1, gets)
	require.Len(t, v.Metas, 2)
	require.Empty(t, v.Partial)
}

// TestPoll_ExcludesArchivedBlockOnly has one object that cannot be read.
func TestPoll_ExcludesArchivedBlockOnly(t *testing.T) {
	mem := blocktest.Bucket(t, "meta a labels={x=\"1\"}\nmeta b labels={x=\"1\"}\n")
	archived := func(op buckettest.Op) buckettest.Fault {
		if op.Kind == "get" && op.Name == block.Path(blocktest.ID("a"), block.MetaFile) {
			return buckettest.Fault{Err: fmt.Errorf("archived: %w", bucket.ErrPermanent)}
		}
		return buckettest.Fault{}
	}
	var logs bytes.Buffer
	f := buckettest.NewFaulty(mem, archived)
	p := blocklist.NewPoller(f, blocklist.Config{Logger: slog.New(slog.NewTextHandler(&logs, nil))})
	for range 3 {
		v, _, _ := costs(t, p, f)
		require.Len(t, v.Metas, 1)
		require.Equal(t, reason.BlockMetaRefused, v.Unusable[blocktest.ID("a")].Reason)
	}
	require.Equal(t, 1, strings.Count(logs.String(), "\n"))
	f.SetRule(nil)
	v, _, _ := costs(t, p, f)
	require.Len(t, v.Metas, 2, "restored")
}

func TestPoll_EndsWhenCancelled(t *testing.T) {
	mem := blocktest.Bucket(t, "meta a labels={x=\"1\"}\n")
	f := buckettest.NewFaulty(mem, nil)
	p := blocklist.NewPoller(f, blocklist.Config{})
	stop := errors.New("stop")
	f.SetRule(func(op buckettest.Op) buckettest.Fault {
		if op.Kind == "get" {
			return buckettest.Fault{Err: stop}
		}
		return buckettest.Fault{}
	})
	_, err := p.Poll(t.Context())
	require.ErrorIs(t, err, stop)
}

// TestDeletionMarkDelay_CountsFromTheLaterTime drops a marked block when the delay has passed
// since the mark was written, if the time in it is earlier, and also by a block index.
func TestDeletionMarkDelay_CountsFromTheLaterTime(t *testing.T) {
	mem := blocktest.Bucket(t, `
meta a labels={x="1"}
mark a deletion at=1h
`)
	a := blocktest.ID("a")
	mem.SetModified(block.Path(a, block.DeletionMarkFile), time.Unix(3*3600, 0))
	p := blocklist.NewPoller(mem, blocklist.Config{})
	first, err := p.Poll(t.Context())
	require.NoError(t, err)
	require.NoError(t, p.WriteIndex(t.Context(), mem))
	fromIndex, err := blocklist.NewPoller(mem, blocklist.Config{}).ReadIndex(t.Context(), time.Hour)
	require.NoError(t, err)
	for _, v := range []*blocklist.View{first, fromIndex} {
		require.Equal(t, time.Unix(3*3600, 0), v.Marked[a])
		for at, kept := range map[int]int{3: 1, 4: 1, 6: 0} {
			now := *v
			now.Taken = time.Unix(int64(at)*3600, 0)
			out, _ := now.Apply(blocklist.DeletionMarkDelay(time.Hour))
			require.Len(t, out.Metas, kept, "at %dh", at)
		}
	}
}
