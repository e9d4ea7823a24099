package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucketadmin"
)

func TestToolsBucketUploadBlocks(t *testing.T) {
	local := blocktest.Dir(t, `
block a range=0h..2h level=1
  up{job="j"}  0h..2h/1m:1+1
block b range=2h..4h level=2
  up{job="j"}  2h..4h/1m:1+1
`)
	s := newToolSite(t, "")
	code, _, errs := s.run("upload-blocks", "--path="+local)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "no --label")
	upload := func(args ...string) []string {
		var out []string
		for _, r := range list[uploadRow](s, exitOK, append([]string{"upload-blocks", "--path=" + local, `--label=cluster="eu"`}, args...)...) {
			out = append(out, r.Result)
		}
		return out
	}
	results := upload("--read-back")
	require.Len(t, results, 2)
	require.Contains(t, results, "uploaded, and read back")
	require.Contains(t, strings.Join(results, "\n"), "--shipper.upload-compacted")
	results = upload("--shipper.upload-compacted")
	slices.Sort(results)
	require.Equal(t, []string{"present", "uploaded"}, results)
	require.Equal(t, []string{"present", "present"}, upload("--shipper.upload-compacted"))
	for _, name := range []string{"a", "b"} {
		m, err := block.ReadMeta(t.Context(), s.bkt, blocktest.ID(name))
		require.NoError(t, err)
		require.Equal(t, map[string]string{"cluster": "eu"}, m.Thanos.Labels)
		require.Equal(t, block.SourceBucketUpload, m.Thanos.Source)
	}
	_, err := os.Stat(filepath.Join(local, uploadState))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Empty(t, s.ok("verify", "--output=yaml")[len("[]\n"):])
}

// columnsOf are the columns objects of the bucket.
func (s *toolSite) columnsOf() (out []string) {
	for _, name := range s.tree() {
		if strings.Contains(name, "/columns-v1-") {
			out = append(out, name)
		}
	}
	return out
}

// Every tool takes a columns object for a part of its block.
func TestToolsBucket_KnowColumnsObjects(t *testing.T) {
	local := blocktest.Dir(t, "block a range=0h..2h level=1\n  up{job=\"j\"}  0h..2h/1m:1+1\n  up{job=\"k\"}  0h..2h/1m:1+1\n")
	without := newToolSite(t, "")
	upload := []string{"upload-blocks", "--path=" + local, `--label=cluster="eu"`, "--read-back"}
	without.ok(append(upload, "--no-shipper.columns")...)
	require.Empty(t, without.columnsOf())
	s := newToolSite(t, "")
	s.ok(upload...)
	require.Len(t, s.columnsOf(), 1)
	object, err := s.bkt.Stat(t.Context(), s.columnsOf()[0])
	require.NoError(t, err)
	bytes := func(s *toolSite) (n int64) {
		for _, row := range list[bucketadmin.Row](s, exitOK, "inspect") {
			n += row.Bytes
		}
		return n
	}
	size := func(s *toolSite, name string) int64 {
		o, err := s.bkt.Stat(t.Context(), block.Path(blocktest.ID("a"), name))
		require.NoError(t, err)
		return o.Size
	}
	meta := size(s, block.MetaFile) - size(without, block.MetaFile) // the times of upload
	require.Equal(t, bytes(without)+object.Size+meta, bytes(s))
	require.Equal(t, id("a"), strings.TrimSpace(s.ok("ls")))
	require.Empty(t, list[bucketadmin.Finding](s, exitOK, "verify"))
	require.Equal(t, without.ok("cost", "--by=tenant"), s.ok("cost", "--by=tenant"), "the bytes of the index and the chunks")

	to := newToolSite(t, "")
	s.ok("replicate", "--single-run", "--objstore-to.config="+to.yml)
	require.Equal(t, s.tree(), to.tree())

	row := list[rewriteRow](s, exitOK, "rewrite", "--id="+id("a"), "--tmp.dir="+t.TempDir(), "--no-dry-run",
		`--rewrite.to-delete-config=[{matchers: '{job="k"}'}]`)[0]
	require.Equal(t, "rewritten", row.Result)
	require.Equal(t, []string{object.Name}, s.columnsOf(), "the new block has none: it would have the deleted samples")
	cleanUp := func(s *toolSite) {
		_, err := block.MarkDeletion(t.Context(), s.bkt, blocktest.ID("a"), "", time.Now().Add(-49*time.Hour))
		require.NoError(t, err)
		s.age("a", 49*time.Hour)
		s.ok("cleanup", "--yes", "--consistency-delay=0s")
	}
	cleanUp(s)
	require.Empty(t, s.columnsOf())
	require.Equal(t, row.Rewritten, strings.TrimSpace(s.ok("ls")))

	to.ok("mark", "--id="+id("a"), "--marker=no-compact-mark.json", "--details=test")
	cleanUp(to)
	require.Empty(t, to.tree())
}

const rewriteBlocks = `
block a range=0h..2h labels={cluster="eu"} level=1
  up{job="j"}  0h..2h/1m:1+1
  up{job="k"}  0h..2h/1m:1+1
`

func TestToolsBucketRewrite_DeletesAndMarks(t *testing.T) {
	s := newToolSite(t, rewriteBlocks)
	tmp := t.TempDir()
	args := []string{
		"rewrite", "--id=" + id("a"), "--tmp.dir=" + tmp, `--rewrite.to-delete-config=[{matchers: '{job="k"}', intervals: [{mint: 0, maxt: 3599999}]}]`,
	}
	before := s.tree()
	row := list[rewriteRow](s, exitOK, args...)[0]
	require.Equal(t, []any{uint64(1), uint64(60), "not rewritten: dry run"}, []any{row.ChangedSeries, row.RemovedSamples, row.Result})
	require.Equal(t, before, s.tree())
	change, err := os.ReadFile(row.ChangeLog)
	require.NoError(t, err)
	require.Equal(t, "Deleted {__name__=\"up\", job=\"k\"} [{0 3599999}]\n", string(change))

	row = list[rewriteRow](s, exitOK, append(args, "--no-dry-run")...)[0]
	require.Equal(t, "rewritten", row.Result)
	again := list[rewriteRow](s, exitOK, append(args, "--no-dry-run", "--delete-blocks")...)[0]
	require.Equal(t, []string{row.Rewritten, "rewritten before, source marked for deletion"}, []string{again.Rewritten, again.Result})
	again = list[rewriteRow](s, exitOK, append(args, "--no-dry-run", "--delete-blocks")...)[0]
	require.Equal(t, "rewritten before, source is marked for deletion", again.Result)
	require.Contains(t, s.ok("ls", "--exclude-delete"), row.Rewritten)
	entries, err := os.ReadDir(tmp)
	require.NoError(t, err)
	require.Len(t, entries, 1, "only the change log stays")
	code, _, errs := s.run("verify", "--issues=index_known_issues")
	require.Equal(t, exitOK, code, errs)
}

// TestToolsBucketRewrite_PublishesAnEmptyShard deletes all series of one shard: its set stays
// complete.
func TestToolsBucketRewrite_PublishesAnEmptyShard(t *testing.T) {
	s := newToolSite(t, rewriteBlocks)
	m, err := block.ReadMeta(t.Context(), s.bkt, blocktest.ID("a"))
	require.NoError(t, err)
	m.SetShard(block.Shard{Set: m.ULID, Index: 1, Count: 2})
	require.NoError(t, blocktest.PutMeta(t.Context(), s.bkt, m))
	row := list[rewriteRow](s, exitOK, "rewrite", "--id="+id("a"), "--tmp.dir="+t.TempDir(), "--no-dry-run", "--delete-blocks",
		`--rewrite.to-delete-config=[{matchers: '{job=~".+"}'}]`)[0]
	require.Equal(t, "rewritten, source marked for deletion", row.Result)
	made, ok := block.ParseID(row.Rewritten)
	require.True(t, ok)
	empty, err := block.ReadMeta(t.Context(), s.bkt, made)
	require.NoError(t, err)
	require.Equal(t, m.Shard(), empty.Shard())
	require.Zero(t, empty.Stats.NumSamples)
	code, _, errs := s.run("verify", "--issues=index_known_issues", "--id="+row.Rewritten)
	require.Equal(t, exitOK, code, errs)
}

func TestToolsBucketRewrite_RelabelsAndRefuses(t *testing.T) {
	s := newToolSite(t, rewriteBlocks)
	args := []string{"rewrite", "--id=" + id("a"), "--tmp.dir=" + t.TempDir(), "--no-dry-run"}
	row := list[rewriteRow](s, exitOK, append(args, "--rewrite.to-relabel-config=[{target_label: team, replacement: x}]")...)[0]
	require.Equal(t, "rewritten", row.Result)
	require.EqualValues(t, 2, row.ChangedSeries)
	relabelled := row.Rewritten
	row = list[rewriteRow](s, exitOK, append(args, `--rewrite.to-delete-config=[{matchers: '{__name__="up"}'}]`)...)[0]
	require.Contains(t, row.Result, "no series would be left")
	row = list[rewriteRow](s, exitOK, append(args, `--rewrite.to-delete-config=[{matchers: '{none!="up"}'}]`)...)[0]
	require.Equal(t, "nothing to change", row.Result, "a matcher needs its label")
	code, _, errs := s.run(append(args, `--rewrite.to-delete-config=[{matchers: '{job="k"}'}]`)...)
	require.Equal(t, exitFailed, code, errs)
	require.Contains(t, errs, "give the --id of that one", "the compactor would keep one of two")
	// Without --delete-blocks readers take the rewritten block, not its source.
	v, err := blocklist.NewPoller(s.bkt, blocklist.Config{}).Poll(t.Context())
	require.NoError(t, err)
	read, _ := v.Apply(blocklist.Duplicates())
	require.Len(t, read.Metas, 1)
	require.Contains(t, read.Metas, ulid.MustParse(relabelled))
	for _, bad := range []string{"", `--rewrite.to-delete-config=[{matchers: '{}'}]`, `--rewrite.to-delete-config=[{matchers: 'a{'}]`, "--rewrite.to-relabel-config=[null]"} {
		code, _, errs := s.run(append(args, slices.DeleteFunc([]string{bad}, func(s string) bool { return s == "" })...)...)
		require.Equal(t, exitUsage, code, bad+errs)
	}
}

func TestToolsBucketDownsample_MakesOnlyCoarserData(t *testing.T) {
	s := newToolSite(t, `
block a range=0h..48h labels={cluster="eu"} level=3
  up{job="j"}  0h..48h/1m:1+1
block b range=48h..50h labels={cluster="eu"} level=1
  up{job="j"}  48h..50h/1m:1+1
block c range=50h..52h labels={cluster="eu"} level=1
  up{job="j"}  50h..52h/1m:1+1
mark c deletion at=3h details=why
`)
	args := []string{"downsample", "--data-dir=" + t.TempDir()}
	made := list[downsampledRow](s, exitOK, args...)
	require.Len(t, made, 1)
	require.Equal(t, []any{"5m", "1970-01-03T00:00:00Z", uint64(1)}, []any{made[0].Resolution, made[0].Until, made[0].Series})
	require.Contains(t, s.ok("ls"), made[0].Block)
	require.Equal(t, 1, strings.Count(s.ok("inspect", "--output=csv"), ",5m,"))
	require.Contains(t, s.ok("ls"), id("c"), "a mark that is due is left to others")
	before := s.tree()
	require.Empty(t, list[downsampledRow](s, exitOK, args...), "nothing is left to do")
	require.Equal(t, before, s.tree())
	require.Empty(t, s.ok("verify", "--output=yaml")[len("[]\n"):])
}

func TestBlocksWeb_ServesThePageBelowAPrefix(t *testing.T) {
	s := newToolSite(t, twoBlocks)
	w := &blocksWeb{
		cfg: &webConfig{prefix: "/thanos/", label: "cluster", timeout: time.Minute}, shard: blocklist.Shard(nil),
		poller: blocklist.NewPoller(s.bkt, blocklist.Config{Registerer: prometheus.NewRegistry()}),
	}
	require.NoError(t, w.cfg.times.minTime.Set("0000-01-01T00:00:00Z"))
	require.NoError(t, w.cfg.times.maxTime.Set("9999-12-31T23:59:59Z"))
	mux := http.NewServeMux()
	w.RegisterHTTP(mux)
	get := func(method, path string) (int, string) {
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, httptest.NewRequest(method, path, nil))
		body, err := io.ReadAll(rec.Body)
		require.NoError(t, err)
		return rec.Code, string(body)
	}
	require.Error(t, w.Ready())
	require.NoError(t, w.look(t.Context()))
	require.NoError(t, w.Ready())
	code, body := get(http.MethodGet, "/thanos/api/v1/blocks")
	require.Equal(t, http.StatusOK, code)
	var answer struct {
		Data struct {
			Label    string       `json:"label"`
			Blocks   []block.Meta `json:"blocks"`
			Markable bool         `json:"markable"`
		} `json:"data"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	require.Len(t, answer.Data.Blocks, 2)
	require.Equal(t, "cluster", answer.Data.Label)
	require.False(t, answer.Data.Markable)
	for _, page := range []string{"/thanos/", "/thanos/blocks"} {
		code, body = get(http.MethodGet, page)
		require.Equal(t, http.StatusOK, code)
		require.Contains(t, body, "<html")
	}
	code, _ = get(http.MethodPost, "/thanos/api/v1/blocks/mark?id="+id("a")+"&action=DELETION")
	require.NotEqual(t, http.StatusOK, code)
}

// A damaged 5m block is made again of its raw block; one whose raw block is gone is kept.
func TestToolsBucketVerify_ReDerives(t *testing.T) {
	s := newToolSite(t, `
block a range=0h..48h labels={cluster="eu"} level=3
  up{job="j"}  0h..48h/1m:1+1
`)
	work := "--data-dir=" + t.TempDir()
	s.ok("downsample", work)
	coarse := ""
	for _, r := range list[bucketadmin.Row](s, exitOK, "inspect") {
		if r.Resolution == "5m" {
			coarse = r.ULID
		}
	}
	require.NoError(t, os.Truncate(filepath.Join(s.dir, coarse, "index"), 100))
	list[bucketadmin.Finding](s, exitFailed, "verify", "--issues=index_known_issues", "--re-derive", "--quarantine")
	require.NotContains(t, s.ok("ls", "--exclude-delete"), coarse)
	require.NoFileExists(t, filepath.Join(s.dir, coarse, block.NoCompactMarkFile))
	s.ok("downsample", work)
	require.Equal(t, 2, strings.Count(s.ok("inspect", "--output=csv"), ",5m,"), "the damaged one and the new one")

	m, err := block.ReadMeta(t.Context(), s.bkt, blocktest.ID("a"))
	require.NoError(t, err)
	require.NoError(t, block.Delete(t.Context(), s.bkt, m.ULID))
	require.NoError(t, os.Remove(filepath.Join(s.dir, coarse, block.DeletionMarkFile)))
	list[bucketadmin.Finding](s, exitFailed, "verify", "--issues=index_known_issues", "--re-derive", "--quarantine")
	require.NoFileExists(t, filepath.Join(s.dir, coarse, block.DeletionMarkFile))
	require.FileExists(t, filepath.Join(s.dir, coarse, block.NoCompactMarkFile))
}
