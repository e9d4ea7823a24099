package e2e

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
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
	"github.com/hindsight-io/hindsight/pkg/bucket/provider"
	"github.com/hindsight-io/hindsight/test/e2e/harness"
)

// faultDelay is the delay before deletion in these tests.
const faultDelay = 2 * time.Second

// faultBlocks is a bucket with work of every kind: windows that are merged and downsampled in
// the same pass, late blocks that overlap, exact copies of replicas, a counter with resets,
// native histograms, and a block that is downsampled to 5m and 1h.
func faultBlocks() string {
	var s strings.Builder
	for i := range 7 {
		fmt.Fprintf(&s, "block eu%d range=%dh..%dh labels={cluster=\"eu\"}\n", i, 8*i, 8*i+8)
		fmt.Fprintf(&s, "  up{job=\"x\"} %dh..%dh/2m:1+1 %dh..%dh/2m:0+3\n", 8*i, 8*i+5, 8*i+5, 8*i+8)
		fmt.Fprintf(&s, "  lat{job=\"x\"} %dh..%dh/10m:h1+1\n  only{block=\"%d\"} %dh:7\n", 8*i, 8*i+8, i, 8*i)
	}
	s.WriteString("block late range=10h..12h labels={cluster=\"eu\"}\n  up{job=\"late\"} 10h..12h/5m:3+1\n")
	for _, r := range []string{"a", "b"} {
		for i := range 3 {
			fmt.Fprintf(&s, "block us%s%d range=%dh..%dh labels={cluster=\"us\",replica=%q}\n  up{job=\"y\"} %dh..%dh/1m:5+2\n", r, i, 2*i, 2*i+2, r, 2*i, 2*i+2)
		}
	}
	s.WriteString("block long range=0h..336h labels={cluster=\"long\"}\n  up{job=\"z\"} 0h..200h/15m:0+1 200h..336h/15m:0+2\n")
	return s.String()
}

// faultSite is an S3 server with buckets for tests of compactors.
type faultSite struct {
	*harness.Site
	want []string
}

// newFaultSite starts the server, and finds out what one undisturbed compactor makes of a
// bucket.
func newFaultSite(t *testing.T) *faultSite {
	t.Helper()
	s := &faultSite{Site: newSite(t)}
	require.NoError(t, s.Start("s3"))
	f := s.bucket(t, "undisturbed")
	f.watch.delay = 0
	p := f.run("1", "--no-wait", "--delete-delay=0s")
	code, err := p.Wait(time.Minute)
	require.NoError(t, err)
	require.Zero(t, code, p.Tail(20))
	f.watch.check(t)
	requirePreserved(t, f.dir, f.before, nil)
	s.want = blocksIn(t, f.dir)
	require.Len(t, s.want, 9)
	return s
}

// faultBucket is a bucket with its compactors.
type faultBucket struct {
	t       *testing.T
	site    *faultSite
	name    string
	dir     string // its objects, as files
	watch   *bucketWatch
	before  map[string][]point
	proxies map[string]*bucketProxy
	procs   map[string]*harness.Process
	http    map[string]string
	shift   time.Duration // of the clock of the bucket
}

// bucket makes and fills a bucket, whose clock may differ from that of its clients.
func (s *faultSite) bucket(t *testing.T, name string, shift ...time.Duration) *faultBucket {
	t.Helper()
	f := &faultBucket{t: t, site: s, name: name, dir: s.Path("s3", name), proxies: map[string]*bucketProxy{}, procs: map[string]*harness.Process{}, http: map[string]string{}}
	for _, d := range shift {
		f.shift = d
	}
	require.NoError(t, os.MkdirAll(f.dir, 0o755))
	blocktest.Fill(t, f.open(), faultBlocks())
	f.before = contentOf(t, f.dir, nil).withoutCopies()
	f.watch = newWatch(t, f.dir, faultDelay)
	return f
}

// config is the configuration of the bucket as a client at addr sees it.
func (f *faultBucket) config(addr string) string {
	return fmt.Sprintf("type: S3\nconfig: {bucket: %s, endpoint: %q, region: us-east-1, access_key: %s, secret_key: %s, insecure: true,\n  http_config: {response_header_timeout: 1s}}\n",
		f.name, addr, harness.S3AccessKey, harness.S3SecretKey)
}

// open opens the bucket without a proxy.
func (f *faultBucket) open() bucket.Bucket {
	f.t.Helper()
	bkt, err := provider.Open(f.t.Context(), []byte(f.config(f.site.Addr("s3"))), slog.New(slog.DiscardHandler), nil)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { require.NoError(f.t, bkt.Close()) })
	return bkt
}

// start starts a compactor, or starts it again, with a proxy of its own.
func (f *faultBucket) start(name string, args ...string) *harness.Process {
	f.t.Helper()
	p := f.run(name, args...)
	f.procs[name] = p
	return p
}

// proxy is the proxy of a compactor, which is made when it is first asked for.
func (f *faultBucket) proxy(name string) *bucketProxy {
	f.t.Helper()
	if f.proxies[name] == nil {
		f.proxies[name] = newProxy(f.t, f.site.Addr("s3"), name, f.watch)
		f.proxies[name].shift = f.shift
		addr, err := harness.Port(harness.Host())
		require.NoError(f.t, err)
		f.http[name] = addr
	}
	return f.proxies[name]
}

func (f *faultBucket) run(name string, extra ...string) *harness.Process {
	f.t.Helper()
	id := f.name + "-" + name
	file := f.site.Path(id + ".yml")
	require.NoError(f.t, os.WriteFile(file, []byte(f.config(f.proxy(name).addr())), 0o644))
	args := append([]string{
		"compact", "--wait", "--wait-interval=500ms", "--compact.cleanup-interval=500ms", "--consistency-delay=0s",
		"--compact.lease-duration=2s", "--delete-delay=" + faultDelay.String(), "--deduplication.replica-label=" + replicaLabel,
		"--http-address=" + f.http[name], "--data-dir=" + f.site.Path(id), "--objstore.config-file=" + file,
	}, extra...)
	if slices.Contains(extra, "--no-wait") {
		args = slices.DeleteFunc(args, func(a string) bool {
			return a == "--wait" || a == "--no-wait" || a == "--delete-delay="+faultDelay.String()
		})
	}
	if slices.ContainsFunc(extra, func(a string) bool { return strings.HasPrefix(a, "--data-dir=") }) {
		args = slices.DeleteFunc(args, func(a string) bool { return a == "--data-dir="+f.site.Path(id) })
	}
	p, err := harness.Start(f.site.Dir, id, f.site.Bin.Hindsight, args...)
	require.NoError(f.t, err)
	f.t.Cleanup(p.Kill)
	return p
}

// busy says what the compactor has left to do, by its own metrics.
func (f *faultBucket) busy(name string) string {
	resp, err := http.Get("http://" + f.http[name] + "/metrics")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	known, passed := false, false
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "hindsight_compact_last_successful_pass_timestamp_seconds") && !strings.HasSuffix(line, " 0\n") {
			passed = true
		}
		if strings.HasPrefix(line, "hindsight_compact_backlog_blocks{") {
			known = true
			if !strings.HasSuffix(line, " 0\n") {
				return line
			}
		}
	}
	if !known || !passed {
		return "no pass has succeeded"
	}
	// Superseded blocks are deleted after the delay.
	for _, id := range dirsOf(f.t, f.dir) {
		if _, err := os.Stat(filepath.Join(f.dir, id.String(), block.DeletionMarkFile)); err == nil {
			return id.String() + " is marked for deletion"
		}
	}
	return ""
}

// await waits until the bucket has the blocks that an undisturbed compactor leaves beside marked
// ones, and busy is empty (I9). each is called in between.
func (f *faultBucket) await(want []string, busy func() string, each ...func()) {
	f.t.Helper()
	why := ""
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, do := range each {
			do()
		}
		got := blocksIn(f.t, f.dir)
		if !slices.Equal(want, got) {
			why = "the blocks are\n" + strings.Join(got, "\n")
		} else if why = busy(); why == "" {
			return
		}
	}
	for _, p := range f.procs {
		f.t.Logf("log of %s:\n%s", p.Name, withoutBacklog(p))
	}
	require.Fail(f.t, "I9: the work does not end", why)
}

// withoutBacklog is the end of a log without the line that each pass has.
func withoutBacklog(p *harness.Process) string {
	lines := slices.DeleteFunc(strings.Split(p.Output(), "\n"), func(l string) bool { return strings.Contains(l, "msg=backlog") })
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// blocksIn describes the blocks that are not marked for deletion.
func blocksIn(t *testing.T, dir string) (out []string) {
	for _, id := range dirsOf(t, dir) {
		m, err := block.ReadMetaDir(filepath.Join(dir, id.String()))
		if err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, id.String(), block.DeletionMarkFile)); err == nil {
			continue
		}
		out = append(out, fmt.Sprintf("%d..%dh res=%d samples=%d series=%d %s", m.MinTime/hour, m.MaxTime/hour,
			m.Resolution()/60_000, m.Stats.NumSamples, m.Stats.NumSeries, m.ExternalLabels()))
	}
	slices.Sort(out)
	return out
}

// done stops the compactors and checks all invariants.
func (f *faultBucket) done(orphan func(ulid.ULID) bool) {
	f.t.Helper()
	for name, p := range f.procs {
		require.True(f.t, p.Running(), "%s ended: %s", name, p.Tail(20))
		require.NoError(f.t, p.Stop(20*time.Second))
		require.NotContains(f.t, p.Output(), "panic")
	}
	f.watch.check(f.t)
	requirePreserved(f.t, f.dir, f.before, orphan)
}

// finish waits for the end of the work and checks all invariants. each is called in between.
func (f *faultBucket) finish(orphan func(ulid.ULID) bool, each ...func()) {
	f.t.Helper()
	f.await(f.site.want, func() string {
		for name := range f.procs {
			if why := f.busy(name); why != "" {
				return why
			}
		}
		return ""
	}, each...)
	f.done(orphan)
}
