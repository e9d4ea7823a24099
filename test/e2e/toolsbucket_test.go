package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/block/blocktest"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucket/provider"
	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// toolBucket is a prefix of the bucket on the S3 server, as a bucket of its own.
type toolBucket struct {
	t    *testing.T
	addr string // of the server, or of a proxy before it
	name string
	bkt  bucket.Bucket
}

// config is the objstore.yml of the bucket at an address.
func (b *toolBucket) config(addr string) string {
	return fmt.Sprintf("type: S3\nconfig: {bucket: hindsight, endpoint: %q, insecure: true, access_key: %s, secret_key: %s}\nprefix: %s\n",
		addr, harness.S3AccessKey, harness.S3SecretKey, b.name)
}

func newToolBucket(t *testing.T, s *harness.Site, name, text string) *toolBucket {
	t.Helper()
	b := &toolBucket{t: t, addr: s.Addr("s3"), name: name}
	var err error
	b.bkt, err = provider.Open(context.Background(), []byte(b.config(b.addr)), slog.New(slog.DiscardHandler), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.bkt.Close()) })
	blocktest.Fill(t, b.bkt, text)
	return b
}

// tool runs a command to its end and returns its output; it must end with the code.
func tool(t *testing.T, code int, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin.Hindsight, append([]string{"tools"}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	require.Equal(t, code, cmd.ProcessState.ExitCode(), "%v\n%s%s", args, out.String(), errs.String())
	return out.String()
}

func (b *toolBucket) tool(code int, args ...string) string {
	b.t.Helper()
	return tool(b.t, code, append(args, "--objstore.config="+b.config(b.addr))...)
}

// toolRows runs a command with --output=json and decodes its list.
func toolRows(b *toolBucket, args ...string) (rows []map[string]any) {
	b.t.Helper()
	out := b.tool(0, append(args, "--output=json")...)
	require.NoError(b.t, json.Unmarshal([]byte(out), &rows), out)
	return rows
}

// killedAt runs a command through a proxy that kills the process before its n-th write to
// the bucket reaches the server. It reports whether the process came that far; one that did
// not must have succeeded.
func (b *toolBucket) killedAt(n int64, args ...string) bool {
	b.t.Helper()
	killed, code, out := b.runKilledAt(n, args...)
	if !killed {
		require.Zero(b.t, code, out)
	}
	return killed
}

// runKilledAt is killedAt for a command that may fail: it returns the exit code and the output,
// too.
func (b *toolBucket) runKilledAt(n int64, args ...string) (_ bool, code int, output string) {
	b.t.Helper()
	target := &url.URL{Scheme: "http", Host: b.addr}
	var writes atomic.Int64
	var process atomic.Pointer[os.Process]
	var killed atomic.Bool
	// The signature covers the host that the client knows, so that it stays.
	forward := &httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		ErrorLog: log.New(io.Discard, "", 0), // requests end when the process is killed
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead && writes.Add(1) >= n {
			killed.Store(true)
			if p := process.Load(); p != nil {
				_ = p.Kill() // an error means that it has ended
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	addr := strings.TrimPrefix(proxy.URL, "http://")
	full := append([]string{"tools"}, args...)
	for i, a := range full {
		full[i] = strings.ReplaceAll(a, b.addr, addr)
	}
	cmd := exec.CommandContext(b.t.Context(), bin.Hindsight, append(full, "--objstore.config="+b.config(addr))...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// The process makes its first request long after Start returns; one that comes before
	// is answered with an error, and repeated.
	require.NoError(b.t, cmd.Start())
	process.Store(cmd.Process)
	_ = cmd.Wait() // the signal
	return killed.Load(), cmd.ProcessState.ExitCode(), out.String()
}

// samples checks that each complete block is whole, and counts the samples of those that
// are not marked for deletion.
func (b *toolBucket) samples() (n uint64, blocks int) {
	b.t.Helper()
	v, err := blocklist.NewPoller(b.bkt, blocklist.Config{}).Poll(b.t.Context())
	require.NoError(b.t, err)
	require.Empty(b.t, v.Unusable)
	for id := range v.Metas {
		dir := filepath.Join(b.t.TempDir(), id.String())
		_, err := block.Download(b.t.Context(), b.bkt, id, dir, block.DownloadConfig{})
		require.NoError(b.t, err)
		r, err := block.Verify(b.t.Context(), dir)
		require.NoError(b.t, err)
		if v.Deletion[id] == nil {
			n += r.Meta.Stats.NumSamples
			blocks++
		}
	}
	return n, blocks
}

// objects are the names of the objects of a block.
func (b *toolBucket) objects(id ulid.ULID) (out []string) {
	b.t.Helper()
	require.NoError(b.t, b.bkt.List(b.t.Context(), id.String(), func(o bucket.Object) error { out = append(out, o.Name); return nil }))
	return out
}

const toolBlocks = `
block a range=0h..2h labels={cluster="eu",tenant_id="t1"} level=1
  up{job="j"}  0h..2h/1m:1+1
  up{job="k"}  0h..2h/1m:1+1
block b range=2h..4h labels={cluster="eu",tenant_id="t1"} level=1
  up{job="j"}  2h..4h/1m:1+1
`

// Each command that reads, and each that marks, says on a real S3 server what it says about
// a directory.
func TestToolsOnS3_CommandsAndTheirOutput(t *testing.T) {
	s := newSite(t)
	require.NoError(t, s.Start("s3"))
	b := newToolBucket(t, s, "tools", toolBlocks)
	a, other := blocktest.ID("a").String(), blocktest.ID("b").String()

	require.ElementsMatch(t, []string{a, other}, strings.Fields(b.tool(0, "bucket", "ls")))
	require.Regexp(t, a+` +1970-01-01T00:00:00Z +1970-01-01T02:00:00Z +2h0m0s +38h0m0s +2 +24\d`, b.tool(0, "bucket", "inspect"))
	require.Empty(t, toolRows(b, "bucket", "verify"))
	require.Equal(t, "marked", toolRows(b, "bucket", "mark", "--id="+a, "--marker=no-compact-mark.json", "--details=x")[0]["result"])
	require.Equal(t, "already marked", toolRows(b, "bucket", "mark", "--id="+a, "--marker=no-compact-mark.json", "--details=x")[0]["result"])
	require.Contains(t, b.tool(0, "bucket", "inspect"), "no-compact-mark")
	require.Equal(t, "removed", toolRows(b, "bucket", "mark", "--id="+a, "--marker=no-compact-mark.json", "--remove")[0]["result"])
	b.tool(2, "bucket", "mark", "--id="+ulid.Make().String(), "--marker=no-compact-mark.json", "--details=x")
	b.tool(2, "bucket", "retention", "--retention.resolution-raw=1d", "--downsampling.disable", "--consistency-delay=0s")
	rule := "--retention.config={rules: [{name: k, tenant: t1, match: '{job=\"k\"}', raw: 7d, 5m: 7d, 1h: 7d}]}"
	require.Regexp(t, a+` +rewrite +k +1 +\d+ +1 of 2 series`, b.tool(0, "bucket", "retention", rule, "--consistency-delay=0s"))
	require.Contains(t, b.tool(0, "bucket", "cleanup", "--dry-run"), "BLOCK")
	require.Regexp(t, `tenant +t1 +- +3 `, b.tool(0, "bucket", "cost"))
	require.Regexp(t, `total +- +- +2 +2 +24\d +[1-9]\d* +[1-9]`, b.tool(0, "block", "analyze", a), "this listing has no sizes")
	require.Regexp(t, `label_value +job=k +- +1 `, b.tool(0, "block", "analyze", a))
	require.Contains(t, b.tool(0, "bucket", "rewrite", "--id="+a, "--tmp.dir="+t.TempDir(), `--rewrite.to-delete-config=[{matchers: '{job="k"}'}]`), "dry run")
	b.tool(0, "bucket", "downsample", "--data-dir="+t.TempDir())
	require.Contains(t, b.tool(0, "doctor"), "no findings")
	require.Equal(t, "[]", strings.TrimSpace(b.tool(0, "recover", "--output=json")))
	conf := s.Path("tools-objstore.yml")
	require.NoError(t, os.WriteFile(conf, []byte(b.config(b.addr)), 0o600))
	require.Regexp(t, `objstore +ok`, tool(t, 0, "check", conf))
	rules := s.Path("tools-rules.yml")
	require.NoError(t, os.WriteFile(rules, []byte("groups: []"), 0o600))
	require.Regexp(t, `rules +ok`, tool(t, 0, "rules-check", "--rules="+rules))
	text := s.Path("tools-openmetrics.txt")
	require.NoError(t, os.WriteFile(text, []byte(openMetrics()), 0o600))
	require.Regexp(t, `1970-01-01T08:00:00Z +1970-01-01T09:59:00Z +1 +120 +verified`, tool(t, 0, "tsdb", "import", text, "--path="+t.TempDir()))
	toolWeb(t, b)
	n, blocks := b.samples()
	require.Equal(t, 2, blocks)
	require.Greater(t, n, uint64(350))
}

// openMetrics is three hours of a series from 08:00 on, which is two blocks.
func openMetrics() string {
	var text strings.Builder
	for n := range 180 {
		fmt.Fprintf(&text, "m{a=\"b\"} %d %d\n", n, 8*3600+n*60)
	}
	return text.String() + "# EOF\n"
}

// toolWeb looks at the page of blocks.
func toolWeb(t *testing.T, b *toolBucket) {
	t.Helper()
	addr, err := harness.Port(harness.Host())
	require.NoError(t, err)
	p, err := harness.Start(t.TempDir(), "web", bin.Hindsight, "tools", "bucket", "web", "--http-address="+addr, "--objstore.config="+b.config(b.addr))
	require.NoError(t, err)
	defer p.Kill()
	require.NoError(t, harness.WaitHTTP(p, "http://"+addr+"/-/ready", 30*time.Second))
	resp, err := http.Get("http://" + addr + "/api/v1/blocks")
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), blocktest.ID("a").String())
	require.Contains(t, string(body), `"markable":false`)
	require.NoError(t, p.Stop(30*time.Second))
}

// Each command that changes the bucket is killed before each of its writes, and run again.
// At any time complete blocks are whole, and at the end the bucket is as it would be
// without the kill.
func TestToolsOnS3_KilledAtEachWriteAndRunAgain(t *testing.T) {
	s := newSite(t)
	require.NoError(t, s.Start("s3"))
	a := blocktest.ID("a")
	local := blocktest.Dir(t, toolBlocks)
	text := s.Path("tools-openmetrics.txt")
	require.NoError(t, os.WriteFile(text, []byte(openMetrics()), 0o600))
	const marked = toolBlocks + "mark a deletion at=3h details=why\n"
	const duplicates = `
block x range=0h..4h labels={cluster="eu"} level=2 sources=p,q
  up{job="j"}  0h..4h/1m:1+1
block y range=0h..4h labels={cluster="eu"} level=2 sources=p,q
  up{job="j"}  0h..4h/1m:1+1
`
	for _, c := range []struct {
		name  string
		text  string
		args  func(b, to *toolBucket) []string
		check func(t *testing.T, b, to *toolBucket)
		// each is the distance of the writes at which it is killed, code that of a run that
		// was not killed; one after it may find nothing to do.
		each int64
		code int
	}{
		{"cleanup", marked, func(_, _ *toolBucket) []string {
			return []string{"bucket", "cleanup", "--delete-delay=0s", "--consistency-delay=0s", "--yes"}
		}, func(t *testing.T, b, _ *toolBucket) {
			require.Empty(t, b.objects(a))
			n, blocks := b.samples()
			require.Equal(t, []any{1, true}, []any{blocks, n > 100})
		}, 1, 0},
		{"retention", toolBlocks, func(_, _ *toolBucket) []string {
			return []string{"bucket", "retention", "--retention.resolution-raw=1d", "--downsampling.disable", "--consistency-delay=0s", "--yes"}
		}, func(t *testing.T, b, _ *toolBucket) {
			_, blocks := b.samples()
			require.Zero(t, blocks)
		}, 1, 0},
		{"rewrite", toolBlocks, func(*toolBucket, *toolBucket) []string {
			return []string{
				"bucket", "rewrite", "--id=" + a.String(), "--no-dry-run", "--delete-blocks", "--tmp.dir=" + t.TempDir(), "--compact.lease-duration=1s",
				`--rewrite.to-delete-config=[{matchers: '{job="k"}'}]`,
			}
		}, func(t *testing.T, b, _ *toolBucket) {
			n, blocks := b.samples()
			require.Equal(t, 2, blocks)
			require.InDelta(t, 241, n, 2, "the series is in one block only")
		}, 1, 0},
		{"upload-blocks", "", func(*toolBucket, *toolBucket) []string {
			return []string{"bucket", "upload-blocks", "--path=" + local, `--label=cluster="eu"`}
		}, func(t *testing.T, b, _ *toolBucket) {
			n, blocks := b.samples()
			require.Equal(t, []any{2, true}, []any{blocks, n > 350})
		}, 1, 0},
		{"import", "", func(*toolBucket, *toolBucket) []string {
			return []string{"tsdb", "import", text, "--path=" + t.TempDir(), "--upload", `--label=cluster="eu"`}
		}, func(t *testing.T, b, _ *toolBucket) {
			n, blocks := b.samples()
			require.Equal(t, []any{2, uint64(180)}, []any{blocks, n})
		}, 1, 0},
		{"replicate", toolBlocks, func(_, to *toolBucket) []string {
			return []string{"bucket", "replicate", "--single-run", "--objstore-to.config=" + to.config(to.addr)}
		}, func(t *testing.T, b, to *toolBucket) {
			want, _ := b.samples()
			n, blocks := to.samples()
			require.Equal(t, []any{2, want}, []any{blocks, n})
		}, 1, 0},
		{"mark", toolBlocks, func(*toolBucket, *toolBucket) []string {
			return []string{
				"bucket", "mark", "--id=" + a.String(), "--id=" + blocktest.ID("b").String(), "--marker=deletion-mark.json", "--details=x",
				"--compact.lease-duration=1s",
			}
		}, func(t *testing.T, b, _ *toolBucket) {
			_, blocks := b.samples()
			require.Zero(t, blocks)
			require.Len(t, b.objects(a), 4, "its samples stay until the delay is over")
		}, 3, 0},
		{"repair", duplicates, func(_, to *toolBucket) []string {
			return []string{
				"bucket", "verify", "--repair", "--issues=duplicated_compaction", "--objstore-backup.config=" + to.config(to.addr),
				"--compact.lease-duration=1s",
			}
		}, func(t *testing.T, b, to *toolBucket) {
			n, blocks := b.samples()
			copied, backups := to.samples()
			require.Equal(t, []any{1, 1, copied}, []any{blocks, backups, n}, "the other result has the samples, and the backup is whole")
		}, 3, 1},
		{"downsample", "block a range=0h..48h labels={cluster=\"eu\"} level=3\n  up{job=\"j\"}  0h..48h/5m:1+1\n", func(b, _ *toolBucket) []string {
			return []string{"bucket", "downsample", "--data-dir=" + s.Path(b.name)}
		}, func(t *testing.T, b, _ *toolBucket) {
			require.Len(t, b.objects(a), 3, "the raw block stays as it is")
			require.Equal(t, 1, strings.Count(b.tool(0, "bucket", "inspect", "--output=csv"), ",5m,"))
			require.Empty(t, toolRows(b, "bucket", "downsample", "--data-dir="+s.Path(b.name)))
		}, 3, 0},
		{"delete-series", toolBlocks, func(*toolBucket, *toolBucket) []string {
			return []string{"bucket", "delete-series", `--match=up{job="k"}`, "--delay=0s", "--yes"}
		}, func(t *testing.T, b, _ *toolBucket) {
			requests := toolRows(b, "bucket", "delete-series", "--list")
			require.NotEmpty(t, requests)
			left := toolRows(b, "bucket", "delete-series", "--status="+fmt.Sprint(requests[0]["request"]))
			require.Equal(t, "to be rewritten by the compactor", left[0]["left"])
		}, 3, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // processes mostly wait
			n := int64(1)
			for ; ; n += c.each {
				require.Less(t, n, int64(40), "the command does not end")
				b := newToolBucket(t, s, fmt.Sprintf("%s-%d", c.name, n), c.text)
				to := newToolBucket(t, s, fmt.Sprintf("%s-%d-to", c.name, n), "")
				killed, code, out := b.runKilledAt(n, c.args(b, to)...)
				if !killed {
					require.Equal(t, c.code, code, out)
				}
				b.samples()
				to.samples()
				if _, code, out = b.runKilledAt(math.MaxInt64, c.args(b, to)...); code != 0 {
					require.Equal(t, c.code, code, out)
				}
				c.check(t, b, to)
				if !killed {
					break
				}
			}
			require.Greater(t, n, int64(2), "the kills came too late")
		})
	}
}
