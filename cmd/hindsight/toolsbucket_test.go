package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/buckettest"
	"github.com/hindsight-io/hindsight/pkg/bucket/provider"
	"github.com/hindsight-io/hindsight/pkg/bucketadmin"
	"github.com/hindsight-io/hindsight/pkg/compact/plan"
)

// toolSite is a FILESYSTEM bucket for the commands.
type toolSite struct {
	t   *testing.T
	dir string
	yml string
	bkt bucket.Bucket
}

func newToolSite(t *testing.T, text string) *toolSite {
	t.Helper()
	dir := t.TempDir()
	s := &toolSite{t: t, dir: dir, yml: "type: FILESYSTEM\nconfig:\n  directory: " + dir}
	var err error
	s.bkt, err = provider.Open(t.Context(), []byte(s.yml), slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	blocktest.Fill(t, s.bkt, text)
	return s
}

// run runs "tools bucket" with the arguments.
func (s *toolSite) run(args ...string) (code int, out, errs string) {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	full := append([]string{"tools", "bucket"}, args...)
	code = run(s.t.Context(), append(full, "--objstore.config="+s.yml), streams{out: &stdout, err: &stderr})
	return code, stdout.String(), stderr.String()
}

// ok runs a command that must succeed.
func (s *toolSite) ok(args ...string) string {
	s.t.Helper()
	code, out, errs := s.run(args...)
	require.Equal(s.t, exitOK, code, errs)
	return out
}

// list runs a command with --output=json and decodes the list.
func list[T any](s *toolSite, want int, args ...string) []T {
	s.t.Helper()
	code, out, errs := s.run(append(args, "--output=json")...)
	require.Equal(s.t, want, code, errs)
	var rows []T
	require.NoError(s.t, json.Unmarshal([]byte(out), &rows), out)
	return rows
}

// tree returns the paths of all files of the bucket.
func (s *toolSite) tree() []string {
	s.t.Helper()
	var out []string
	require.NoError(s.t, s.bkt.List(s.t.Context(), "", func(o bucket.Object) error {
		if _, rel, ok := block.ParsePath(o.Name); ok && rel != "" {
			out = append(out, o.Name)
		}
		return nil
	}))
	return out
}

func id(name string) string { return blocktest.ID(name).String() }

const twoBlocks = `
block a range=2h..4h labels={cluster="eu",replica="x"} level=1
  up{job="j"}  2h..4h/1m:1+1
block b range=0h..2h labels={cluster="us"} level=2
  up{job="j"}  0h..2h/1m:1+1
  up{job="k"}  0h..2h/1m:1+1
mark b deletion at=3h details=why
`

func TestToolsBucketLs(t *testing.T) {
	s := newToolSite(t, twoBlocks)
	require.Equal(t, id("a")+"\n"+id("b")+"\n", s.ok("ls"))
	require.Equal(t, id("a")+"\n", s.ok("ls", "--exclude-delete"))
	require.Equal(t, id("a")+"\n", s.ok("ls", "--min-time=1970-01-01T02:00:01Z"))
	require.Equal(t, id("b")+"\n", s.ok("ls", "--max-time=1970-01-01T01:00:00Z"))
	require.Equal(t, id("b")+"\n", s.ok("ls", "--selector.relabel-config=[{action: keep, source_labels: [cluster], regex: us}]"))
	require.Equal(t, id("a")+" eu\n"+id("b")+" us\n", s.ok("ls", "-o", "{{.ULID}} {{.Thanos.Labels.cluster}}"))
	require.Contains(t, s.ok("ls", "--output=wide"), "deletion-mark")

	d := json.NewDecoder(strings.NewReader(s.ok("ls", "--output=json")))
	var m block.Meta
	require.NoError(t, d.Decode(&m))
	require.Equal(t, blocktest.ID("a"), m.ULID)
	require.NoError(t, d.Decode(&m))
	y := yaml.NewDecoder(strings.NewReader(s.ok("ls", "--output=yaml")))
	var doc struct {
		ULID    string `yaml:"ulid"`
		MaxTime int64  `yaml:"maxTime"`
	}
	require.NoError(t, y.Decode(&doc))
	require.Equal(t, id("a"), doc.ULID)
	require.EqualValues(t, 4*3600_000, doc.MaxTime)

	code, _, errs := s.run("ls", "--output={{")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "hindsight tools bucket ls: error: --output: ")
	code, _, errs = s.run("ls", "--no-such-flag")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "(see: hindsight tools bucket ls --help, ")
}

func TestToolsBucketInspect(t *testing.T) {
	s := newToolSite(t, twoBlocks)
	lines := strings.Split(s.ok("inspect"), "\n")
	require.Regexp(t, `^ULID +FROM +UNTIL +RANGE +UNTIL-DOWN +#SERIES +#SAMPLES`, lines[0])
	require.Regexp(t, "^"+id("b")+` +1970-01-01T00:00:00Z +1970-01-01T02:00:00Z +2h0m0s +38h0m0s +2 +24\d +.*cluster="us" +raw +sidecar +\d+ +deletion-mark$`, lines[1])
	require.True(t, strings.HasPrefix(lines[2], id("a")), "sorted by FROM")
	rows := list[bucketadmin.Row](s, exitOK, "inspect", "--sort-by=#SERIES", `--selector=cluster="us"`)
	require.Len(t, rows, 1)
	require.Equal(t, []string{"deletion-mark"}, rows[0].Marks)
	require.Positive(t, rows[0].Bytes)
	require.True(t, strings.HasPrefix(strings.Split(s.ok("inspect", "--sort-by=#SERIES"), "\n")[1], id("a")))
	require.True(t, strings.HasPrefix(s.ok("inspect", "--output=tsv"), "ULID\tFROM\t"))
	require.Contains(t, s.ok("inspect", "--output=csv"), `"cluster=""eu"", replica=""x"""`)
	require.Contains(t, s.ok("inspect", "--output=yaml"), "compaction_level: 2")
}

func TestToolsBucketMark(t *testing.T) {
	s := newToolSite(t, twoBlocks)
	for _, marker := range []string{block.DeletionMarkFile, block.NoCompactMarkFile, block.NoDownsampleMarkFile} {
		args := []string{"mark", "--id=" + id("a"), "--marker=" + marker}
		require.Equal(t, "marked", list[markRow](s, exitOK, append(args, "--details=test")...)[0].Result)
		data, err := os.ReadFile(filepath.Join(s.dir, id("a"), marker))
		require.NoError(t, err)
		require.Contains(t, string(data), `"details":"test"`)
		require.Equal(t, "already marked", list[markRow](s, exitOK, append(args, "--details=other")...)[0].Result)
		again, err := os.ReadFile(filepath.Join(s.dir, id("a"), marker))
		require.NoError(t, err)
		require.Equal(t, data, again)
		require.Equal(t, "removed", list[markRow](s, exitOK, append(args, "--remove")...)[0].Result)
		require.Equal(t, "not marked", list[markRow](s, exitOK, append(args, "--remove")...)[0].Result)
		require.NoFileExists(t, filepath.Join(s.dir, id("a"), marker))
	}
	before := s.tree()
	for _, args := range [][]string{
		{"--id=" + id("a"), "--id=" + id("none"), "--details=test"}, {"--id=" + id("a")}, {"--id=x", "--details=test"},
	} {
		code, _, errs := s.run(append([]string{"mark", "--marker=" + block.DeletionMarkFile}, args...)...)
		require.Equal(t, exitUsage, code, errs)
	}
	require.Equal(t, before, s.tree(), "a wrong --id changes nothing")
}

// damageByte flips a byte in the middle of a file of a block.
func (s *toolSite) damageByte(name, rel string) {
	path := filepath.Join(s.dir, id(name), rel)
	data, err := os.ReadFile(path)
	require.NoError(s.t, err)
	data[len(data)/2] ^= 0xff
	require.NoError(s.t, os.WriteFile(path, data, 0o644))
}

func TestToolsBucketVerify(t *testing.T) {
	s := newToolSite(t, `
block good range=0h..2h labels={cluster="eu"}
  up{job="j"}  0h..2h/1m:1+1
block chunk range=2h..4h labels={cluster="eu"}
  up{job="j"}  2h..4h/1m:1+1
block short range=4h..6h labels={cluster="eu"}
  up{job="j"}  4h..6h/1m:1+1
block gone range=6h..8h labels={cluster="eu"}
  up{job="j"}  6h..8h/1m:1+1
`)
	require.Empty(t, list[bucketadmin.Finding](s, exitOK, "verify"))
	s.damageByte("chunk", "chunks/000001")
	require.NoError(t, os.Truncate(filepath.Join(s.dir, id("short"), "index"), 100))
	require.NoError(t, os.Remove(filepath.Join(s.dir, id("gone"), "chunks/000001")))
	got := map[string]string{}
	for _, f := range list[bucketadmin.Finding](s, exitFailed, "verify", "--quarantine") {
		got[f.Block] = f.Kind
		require.True(t, f.Damage)
	}
	require.Equal(t, map[string]string{id("chunk"): "chunk_corrupt", id("short"): "size_mismatch", id("gone"): "file_missing"}, got)
	for name, marked := range map[string]bool{"good": false, "chunk": true, "short": true, "gone": true} {
		_, err := os.Stat(filepath.Join(s.dir, id(name), block.NoCompactMarkFile))
		require.Equal(t, marked, err == nil, name)
	}
	require.Empty(t, list[bucketadmin.Finding](s, exitOK, "verify", "--id="+id("good")))
	require.Empty(t, list[bucketadmin.Finding](s, exitOK, "verify", "--issues=overlapped_blocks"))
	blocktest.Fill(t, s.bkt, "meta over range=1h..3h labels={cluster=\"eu\"}\n")
	found := list[bucketadmin.Finding](s, exitFailed, "verify", "--issues=overlapped_blocks")
	require.Len(t, found, 2)
	code, out, errs := s.run("verify", "--issues=overlapped_blocks")
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "overlaps block "+id("good")+" from 1970-01-01T01:00:00Z to 1970-01-01T02:00:00Z")
	require.Contains(t, errs, "findings: 2")
	code, _, _ = s.run("verify", "--id="+id("none"))
	require.Equal(t, exitUsage, code)
}

// TestToolsBucketVerify_RepairKeepsACopy repairs a damaged raw block, a damaged 5m block that
// can be made again, and a second result of one compaction.
func TestToolsBucketVerify_RepairKeepsACopy(t *testing.T) {
	s := newToolSite(t, `
block raw range=0h..48h labels={cluster="eu"} level=3
  up{job="j"}  0h..48h/10m:1+1
block coarse range=0h..48h labels={cluster="eu"} level=3 resolution=5m sources=raw
  up{job="j"}  0h..48h/10m:1+1
block bad range=48h..50h labels={cluster="eu"}
  up{job="j"}  48h..50h/1m:1+1
block x range=50h..58h labels={cluster="eu"} level=2 sources=p,q
  up{job="j"}  50h..58h/1m:1+1
block y range=50h..58h labels={cluster="eu"} level=2 sources=p,q
  up{job="j"}  50h..58h/1m:1+1
`)
	code, _, errs := s.run("verify", "--repair")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "--objstore-backup.config-file")
	for _, name := range []string{"bad", "coarse"} {
		s.damageByte(name, "chunks/000001")
	}
	damaged, err := os.ReadFile(filepath.Join(s.dir, id("bad"), "chunks/000001"))
	require.NoError(t, err)
	code, _, errs = s.run("verify", "--repair", "--objstore-backup.config="+s.yml)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "is the bucket that is verified")

	backup := t.TempDir()
	args := []string{"verify", "-r", "-i", "index_known_issues", "-i", "duplicated_compaction", "--objstore-backup.config={type: FILESYSTEM, config: {directory: " + backup + "}}"}
	require.Len(t, list[bucketadmin.Finding](s, exitFailed, args...), 3)
	for name, mark := range map[string]string{"bad": block.NoCompactMarkFile, "coarse": block.DeletionMarkFile, "y": block.DeletionMarkFile} {
		require.FileExists(t, filepath.Join(s.dir, id(name), mark))
		require.FileExists(t, filepath.Join(backup, id(name), block.MetaFile))
	}
	copied, err := os.ReadFile(filepath.Join(backup, id("bad"), "chunks/000001"))
	require.NoError(t, err)
	require.Equal(t, damaged, copied)
	for _, name := range []string{"raw", "x"} {
		require.NoFileExists(t, filepath.Join(s.dir, id(name), block.DeletionMarkFile))
		require.NoDirExists(t, filepath.Join(backup, id(name)))
	}
}

// age sets the times of all files of a block.
func (s *toolSite) age(name string, d time.Duration) {
	at := time.Now().Add(-d)
	require.NoError(s.t, filepath.WalkDir(filepath.Join(s.dir, id(name)), func(path string, _ os.DirEntry, err error) error {
		require.NoError(s.t, err)
		return os.Chtimes(path, at, at)
	}))
}

func TestToolsBucketCleanup(t *testing.T) {
	s := newToolSite(t, `
meta kept range=0h..2h labels={cluster="eu"}
meta old range=0h..2h labels={cluster="eu"}
meta other range=0h..2h labels={cluster="us"}
meta uploading range=2h..4h labels={cluster="eu"}
meta givenup range=2h..4h labels={cluster="eu"}
meta broken range=2h..4h labels={cluster="eu"}
meta late range=0h..2h labels={cluster="eu"}
mark old deletion at=3h details=why
mark late deletion at=3h
mark other deletion at=3h
`)
	_, err := block.MarkDeletion(t.Context(), s.bkt, blocktest.ID("kept"), "", time.Now().Add(-47*time.Hour))
	require.NoError(t, err)
	for _, name := range []string{"uploading", "givenup"} {
		require.NoError(t, os.Remove(filepath.Join(s.dir, id(name), block.MetaFile)))
	}
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, id("broken"), block.MetaFile), []byte("{"), 0o644))
	// Its mark says 1970, and was written a moment ago.
	late := filepath.Join(s.dir, id("late"), block.DeletionMarkFile)
	require.FileExists(t, late)
	s.age("old", 49*time.Hour)
	s.age("other", 49*time.Hour)
	s.age("uploading", 47*time.Hour)
	s.age("givenup", 49*time.Hour)
	s.age("broken", 49*time.Hour)
	euOnly := "--selector.relabel-config=[{action: keep, source_labels: [cluster], regex: eu}]"

	before := s.tree()
	rows := list[changeRow](s, exitUsage, "cleanup", euOnly)
	require.Equal(t, rows, list[changeRow](s, exitOK, "cleanup", euOnly, "--dry-run"))
	require.Equal(t, before, s.tree())
	jobs := func(rows []changeRow) map[string]string {
		out := map[string]string{}
		for _, r := range rows {
			out[r.Block] = r.Job + ": " + r.Result
		}
		return out
	}
	require.Equal(t, map[string]string{
		id("old"): "delete: not done", id("givenup"): "clean-partial: not done", id("broken"): "keep: kept",
	}, jobs(rows))
	require.Equal(t, map[string]string{
		id("old"): "delete: deleted", id("givenup"): "clean-partial: deleted", id("broken"): "keep: kept",
	}, jobs(list[changeRow](s, exitOK, "cleanup", euOnly, "--yes")))
	for _, name := range s.tree() {
		require.NotContains(t, name, id("old"))
		require.NotContains(t, name, id("givenup"))
	}
	require.Len(t, list[changeRow](s, exitOK, "cleanup", euOnly, "--yes"), 1, "a second run has nothing to do")
	require.NoError(t, block.ReadMark(t.Context(), s.bkt, blocktest.ID("kept"), &block.DeletionMark{}))
	require.FileExists(t, filepath.Join(s.dir, id("other"), block.MetaFile))
	require.DirExists(t, filepath.Join(s.dir, id("uploading")))
	require.FileExists(t, late)
	code, _, errs := s.run("cleanup", "--yes", "--dry-run")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "exclude each other")
}

func TestToolsBucketRetention(t *testing.T) {
	s := newToolSite(t, `
meta raw range=0h..48h labels={cluster="eu"} sources=raw level=3 samples=1
meta coarse range=0h..48h labels={cluster="eu"} sources=raw level=3 resolution=5m samples=1
meta alone range=48h..96h labels={cluster="eu"} sources=alone level=3 samples=1
`)
	args := []string{"retention", "--retention.resolution-raw=30d", "--consistency-delay=0s"}
	rows := list[changeRow](s, exitUsage, args...)
	require.Len(t, rows, 2)
	require.Equal(t, []string{id("raw"), "mark-deletion"}, []string{rows[0].Block, rows[0].Job})
	require.Equal(t, []string{id("alone"), jobKeep}, []string{rows[1].Block, rows[1].Job})
	require.Contains(t, rows[1].Reason, "there is no 5m data of it yet")
	rows = list[changeRow](s, exitOK, append(args, "--yes")...)
	require.Equal(t, "marked", rows[0].Result)
	var mark block.DeletionMark
	require.NoError(t, block.ReadMark(t.Context(), s.bkt, blocktest.ID("raw"), &mark))
	require.Equal(t, "block exceeding retention of 720h0m0s", mark.Details)
	require.ErrorIs(t, block.ReadMark(t.Context(), s.bkt, blocktest.ID("alone"), &mark), bucket.ErrNotFound)

	rows = list[changeRow](s, exitOK, append(args, "--yes")...)
	require.Len(t, rows, 1, "the second run marks nothing")
	rows = list[changeRow](s, exitOK, append(args, "--yes", "--downsampling.disable")...)
	require.Equal(t, []string{id("alone"), "marked"}, []string{rows[0].Block, rows[0].Result})
	code, _, errs := s.run("retention", "--retention.resolution-raw=1h")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "raw retention of 1h")
}

func TestToolsBucketReplicate(t *testing.T) {
	s := newToolSite(t, `
block a range=0h..2h labels={cluster="eu"} level=1
  up{job="j"}  0h..2h/1m:1+1
block b range=2h..4h labels={cluster="us"} level=1
  up{job="j"}  2h..4h/1m:1+1
block c range=4h..6h labels={cluster="eu"} level=5
  up{job="j"}  4h..6h/1m:1+1
mark a no-compact
`)
	to := newToolSite(t, "")
	args := []string{"replicate", "--single-run", "--objstore-to.config=" + to.yml}
	copied := func(args ...string) map[string]string {
		out := map[string]string{}
		for _, r := range list[copyRow](s, exitOK, args...) {
			out[r.Block] = r.Result
		}
		return out
	}
	require.Equal(t, map[string]string{id("a"): "copied"}, copied(append(args, `--matcher={cluster=~"e.*"}`)...))
	for _, rel := range []string{"meta.json", "index", "chunks/000001"} {
		want, err := os.ReadFile(filepath.Join(s.dir, id("a"), rel))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join(to.dir, id("a"), rel))
		require.NoError(t, err)
		require.Equal(t, want, got, rel)
	}
	require.NoFileExists(t, filepath.Join(to.dir, id("a"), block.NoCompactMarkFile))
	require.Equal(t, map[string]string{id("a"): "present", id("b"): "copied"}, copied(args...))
	require.Empty(t, copied(append(args, "--resolution=5m")...))
	require.Equal(t, map[string]string{id("c"): "copied"}, copied(append(args, "--compaction=5", "--id="+id("c"))...))
	require.Empty(t, list[bucketadmin.Finding](to, exitOK, "verify"))
	for _, wrong := range []string{"--resolution=x", "--compaction-min=5", "--matcher={", "--id=x"} {
		code, _, errs := s.run(append(args, wrong)...)
		require.Equal(t, exitUsage, code, errs)
	}
	code, _, errs := s.run("replicate", "--single-run")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "--objstore-to.config-file")
}

// Without --single-run the command copies what appears later, until it is ended.
func TestToolsBucketReplicate_InIntervals(t *testing.T) {
	s, to := newToolSite(t, twoBlocks), newToolSite(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	var out, errs bytes.Buffer
	go func() {
		done <- run(ctx, []string{"tools", "bucket", "replicate", "--interval=10ms", "--objstore.config=" + s.yml, "--objstore-to.config=" + to.yml}, streams{out: &out, err: &errs})
	}()
	arrives := func(name string) {
		require.Eventually(t, func() bool {
			_, err := os.Stat(filepath.Join(to.dir, id(name), block.MetaFile))
			return err == nil
		}, 20*time.Second, 5*time.Millisecond)
	}
	arrives("b")
	blocktest.Fill(t, s.bkt, "block later range=4h..6h labels={cluster=\"eu\"} level=1\n  up{job=\"j\"}  4h..6h/1m:1+1\n")
	arrives("later")
	cancel()
	require.Equal(t, exitOK, <-done, errs.String())
	require.Equal(t, 1, strings.Count(out.String(), id("b")), "each block is listed once")
}

// Cleanup and retention are interrupted at every request; each next run continues.
func TestToolsBucketJobs_SurviveInterruptions(t *testing.T) {
	text := `
meta marked range=0h..2h labels={cluster="eu"}
meta partial range=2h..4h labels={cluster="eu"}
meta expired range=4h..6h labels={cluster="eu"}
mark marked deletion at=3h
`
	jobs := func() []changeRow {
		return []changeRow{
			{job: &plan.Job{Kind: plan.Delete, Blocks: []ulid.ULID{blocktest.ID("marked")}}},
			{job: &plan.Job{Kind: plan.CleanPartial, Blocks: []ulid.ULID{blocktest.ID("partial")}}},
			{job: &plan.Job{Kind: plan.MarkDeletion, Blocks: []ulid.ULID{blocktest.ID("expired")}}},
		}
	}
	// No upload of the partial block goes on.
	clock := bucketClock{now: time.Now().Add(time.Hour), local: time.Now(), policy: &plan.Policy{}}
	for at := 0; ; at++ {
		bkt := blocktest.Bucket(t, text)
		require.NoError(t, bkt.Delete(t.Context(), block.Path(blocktest.ID("partial"), block.MetaFile)))
		n := atomic.Int64{}
		faulty := buckettest.NewFaulty(bkt, func(buckettest.Op) buckettest.Fault {
			if n.Add(1) > int64(at) {
				return buckettest.Fault{Err: buckettest.ErrInjected}
			}
			return buckettest.Fault{}
		})
		err := applyJobs(t.Context(), streams{err: io.Discard}, faulty, jobs(), clock)
		_, merr := bkt.Stat(t.Context(), block.Path(blocktest.ID("marked"), block.DeletionMarkFile))
		left := 0
		require.NoError(t, bkt.List(t.Context(), id("marked"), func(bucket.Object) error { left++; return nil }))
		require.True(t, left == 0 || merr == nil, "the mark goes last")
		require.NoError(t, applyJobs(t.Context(), streams{err: io.Discard}, bkt, jobs(), clock))
		var names []string
		require.NoError(t, bkt.List(t.Context(), "", func(o bucket.Object) error {
			names = append(names, strings.TrimPrefix(o.Name, id("expired")+"/"))
			return nil
		}))
		require.Equal(t, []string{"chunks/000001", "deletion-mark.json", "index", "meta.json"}, names, "interrupted at %d", at)
		if err == nil {
			require.Greater(t, at, 8)
			return
		}
	}
}
