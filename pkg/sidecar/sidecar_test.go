package sidecar

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom/promtest"
	"github.com/hindsight-io/hindsight/pkg/vfs"
	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// parse returns the configuration that the command line gives.
func parse(t *testing.T, args ...string) Config {
	t.Helper()
	var c Config
	app := kingpin.New("sidecar", "")
	app.Terminate(nil)
	app.Writer(io.Discard)
	c.RegisterFlags(app)
	_, err := app.Parse(args)
	require.NoError(t, err)
	return c
}

// start runs a sidecar; the returned function stops it and returns its error.
func start(t *testing.T, c Config, d Deps) (*Sidecar, func() error) {
	t.Helper()
	if d.Logger == nil {
		d.Logger = discard()
	}
	d.Registerer = prometheus.NewPedanticRegistry()
	s, err := New(c, d)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop := sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	return s, stop
}

func TestConfig_HasDefaultsAndRefusesWrongValues(t *testing.T) {
	c := parse(t)
	require.NoError(t, c.Validate())
	require.Equal(t, "http://localhost:9090", c.Prometheus.URL.String())
	require.Equal(t, 10*time.Minute, c.Prometheus.ReadyTimeout)
	require.Equal(t, "./data", c.TSDBPath)
	require.Equal(t, "thanos.shipper.json", c.Shipper.MetaFileName)
	require.Equal(t, int64(-62167219200000), c.MinTime.Millis(time.Now()))

	bad := func(want string, args ...string) {
		t.Helper()
		c := parse(t, args...)
		err := c.Validate()
		require.ErrorContains(t, err, want)
		require.True(t, flags.IsInvalid(err))
	}
	bad("not of the form", "--prometheus.url=localhost:9090")
	bad("greater than zero", "--prometheus.get_config_interval=0s")
	bad("--prometheus.http-client: parse HTTP client configuration: line 1: unknown key \"x\"", "--prometheus.http-client=x: 1")
	bad("needs --reloader.config-file", "--reloader.config-envsubst-file=/x")
}

func TestRun_WaitsForPrometheus(t *testing.T) {
	defer goleak.VerifyNone(t)
	p := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu")})
	p.SetDown(true)
	s, stop := start(t, parse(t, "--prometheus.url="+p.URL().String()), Deps{})
	require.Error(t, s.Ready())
	p.SetDown(false)
	require.Eventually(t, func() bool { return s.Ready() == nil }, 10*time.Second, 10*time.Millisecond)
	require.Len(t, s.store.Info().LabelSets, 1)

	// It reports when Prometheus is down and when it is up again.
	p.SetDown(true)
	s.source.recheck()
	require.Eventually(t, func() bool { return s.Ready() != nil }, 10*time.Second, 10*time.Millisecond)
	p.SetDown(false)
	require.Eventually(t, func() bool { return s.Ready() == nil }, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, stop())
	p.Close()
}

func TestRun_FailsWithoutIdentity(t *testing.T) {
	run := func(o promtest.Options, want string, invalid bool, args ...string) {
		t.Helper()
		p := promtest.New(t, o)
		s, err := New(parse(t, append(args, "--prometheus.url="+p.URL().String())...), Deps{Logger: discard()})
		require.NoError(t, err)
		err = s.Run(t.Context())
		require.ErrorContains(t, err, want)
		require.Equal(t, invalid, flags.IsInvalid(err))
		require.NotContains(t, err.Error(), "\n")
	}
	run(promtest.Options{}, "Prometheus has no external labels at http://127.0.0.1", true)
	run(promtest.Options{Wrap: func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	}}, "ask /api/v1/status/config: Prometheus answered 401 Unauthorized", true)
	run(promtest.Options{Wrap: func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	}}, "was not ready within 50ms: ask /api/v1/status/config: Prometheus answered 503", false, "--prometheus.ready_timeout=50ms")
}

func TestCheckBlockDurations_RefusesCompaction(t *testing.T) {
	c := Config{TSDBPath: "/prom/data", Shipper: ShipperConfig{MetaFileName: "thanos.shipper.json"}}
	good := func(f map[string]string) {
		t.Helper()
		require.NoError(t, checkBlockDurations(f, c))
	}
	bad := func(f map[string]string, want string) {
		t.Helper()
		err := checkBlockDurations(f, c)
		require.ErrorContains(t, err, want)
		require.True(t, flags.IsInvalid(err))
	}
	good(map[string]string{minBlockFlag: "2h", maxBlockFlag: "2h"})
	good(map[string]string{minBlockFlag: "2h", maxBlockFlag: "1d12h", delayCompactFlag: "/prom/data/../data/thanos.shipper.json"})
	bad(map[string]string{minBlockFlag: "2h", maxBlockFlag: "1d12h"},
		"start Prometheus with --storage.tsdb.min-block-duration=2h --storage.tsdb.max-block-duration=2h, or with --storage.tsdb.delay-compact-file.path=/prom/data/thanos.shipper.json")
	bad(map[string]string{minBlockFlag: "2h", maxBlockFlag: "2h", delayCompactFlag: "/elsewhere"},
		"start Prometheus with --storage.tsdb.delay-compact-file.path=/prom/data/thanos.shipper.json")
	require.ErrorContains(t, checkBlockDurations(nil, c), "is not a duration")
	c.Shipper.IgnoreUnequalBlockSize = true
	good(map[string]string{minBlockFlag: "2h", maxBlockFlag: "1d12h"})
}

// calls counts calls, which return the error of the last call of fail.
type calls struct {
	mu  sync.Mutex
	n   int
	err error
}

func (c *calls) call() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.err
}

func (c *calls) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func (c *calls) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// counting is a shipper that counts its passes.
type counting struct{ calls }

func (c *counting) Sync(ctx context.Context) (int, error) { return 1, errors.Join(c.call(), ctx.Err()) }

// quietWatcher is a watcher whose changes the test sends.
func quietWatcher() *watcher {
	return &watcher{changes: make(chan struct{}, 1), logger: discard(), failed: map[string]bool{}}
}

func TestShipping_RunsAtIntervalsAtChangesAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counting{}
		c.fail(errors.New("bucket is down"))
		s := &shipping{shipper: c, watcher: quietWatcher(), logger: discard(), metrics: newMetrics(nil)}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.run(ctx) })
		passes := func(want int) {
			t.Helper()
			synctest.Wait()
			require.Equal(t, want, c.count())
		}
		passes(1)
		time.Sleep(shipInterval)
		passes(2)
		s.watcher.changes <- struct{}{}
		passes(3)
		require.Equal(t, 3.0, testutil.ToFloat64(s.metrics.shipFailures))
		c.fail(nil)
		cancel()
		wg.Wait()
		require.Equal(t, 4, c.count())
		require.Equal(t, float64(time.Now().Unix()), testutil.ToFloat64(s.metrics.lastShipped), "the last pass is not cancelled")
	})
}

func TestShipping_ReportsPrometheusThatBecameUnsafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var unsafe calls
		s := &shipping{
			shipper: &counting{}, watcher: quietWatcher(), logger: discard(), metrics: newMetrics(nil),
			check: func(context.Context) error { return unsafe.call() }, checked: time.Now(),
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.run(ctx) })
		after := func(err error, want float64) {
			t.Helper()
			unsafe.fail(err)
			time.Sleep(flagsInterval + shipInterval)
			synctest.Wait()
			require.Equal(t, want, testutil.ToFloat64(s.metrics.unsafe))
		}
		after(nil, 0)
		after(flags.Invalid(errors.New("compacts")), 1)
		after(errors.New("restarting"), 1)
		after(nil, 0)
		require.Less(t, unsafe.count(), 6)
		cancel()
		wg.Wait()
	})
}

func TestWatcher_ReportsNewDirectory(t *testing.T) {
	dir := t.TempDir()
	w := newWatcher(discard(), nil)
	require.Equal(t, 1, w.set([]string{dir}))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { w.run(ctx) })
	require.NoError(t, os.Mkdir(filepath.Join(dir, "01BX5ZZKBKACTAV9WEVGEMMVRZ"), 0o755))
	<-w.changes
	cancel()
	wg.Wait()
}

func TestRun_ShipsBlocksUntilTheEnd(t *testing.T) {
	p := promtest.New(t, promtest.Options{
		ExternalLabels: labels.FromStrings("cluster", "eu", "replica", "a"), BlockDuration: 1000,
		Flags: map[string]string{minBlockFlag: "1s", maxBlockFlag: "1s"},
	})
	p.Append(t, labels.FromStrings("__name__", "up"), 1000, 100, make([]float64, 50)...)
	require.NoError(t, p.DB.Compact(t.Context()))
	require.NotEmpty(t, p.DB.Blocks())
	bkt := bucket.NewMemory()
	_, stop := start(t, parse(t, "--prometheus.url="+p.URL().String(), "--tsdb.path="+p.Dir, "--hash-func=SHA256"), Deps{Bucket: bkt})
	for _, b := range p.DB.Blocks() {
		name := b.Meta().ULID.String() + "/meta.json"
		require.Eventually(t, func() bool {
			_, err := bkt.Stat(t.Context(), name)
			return err == nil
		}, 10*time.Second, 10*time.Millisecond)
		r, err := bkt.Get(t.Context(), name)
		require.NoError(t, err)
		meta, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Contains(t, string(meta), `"replica": "a"`)
		require.Contains(t, string(meta), `"source": "sidecar"`)
		require.Contains(t, string(meta), `SHA256`)
	}
	// A block that appears during the stop is shipped too.
	p.Append(t, labels.FromStrings("__name__", "up"), 7000, 100, make([]float64, 50)...)
	before := len(p.DB.Blocks())
	require.NoError(t, p.DB.Compact(t.Context()))
	require.Greater(t, len(p.DB.Blocks()), before)
	require.NoError(t, stop())
	for _, b := range p.DB.Blocks() {
		_, err := bkt.Stat(t.Context(), b.Meta().ULID.String()+"/meta.json")
		require.NoError(t, err)
	}
}

func TestRun_RefusesToShipUnsafely(t *testing.T) {
	run := func(want string, promFlags map[string]string, dir string) {
		t.Helper()
		p := promtest.New(t, promtest.Options{ExternalLabels: labels.FromStrings("cluster", "eu"), Flags: promFlags})
		s, err := New(parse(t, "--prometheus.url="+p.URL().String(), "--tsdb.path="+dir), Deps{Logger: discard(), Bucket: bucket.NewMemory()})
		require.NoError(t, err)
		err = s.Run(t.Context())
		require.ErrorContains(t, err, want)
		require.True(t, flags.IsInvalid(err))
	}
	run("Prometheus compacts its blocks (2h to 1d12h)", map[string]string{minBlockFlag: "2h", maxBlockFlag: "36h"}, t.TempDir())
	run("--tsdb.path must be the data directory of Prometheus", map[string]string{minBlockFlag: "2h", maxBlockFlag: "2h"}, "/does/not/exist")
}

// reloads counts reloads of Prometheus.
type reloads struct{ calls }

func (r *reloads) reload(context.Context) error { return r.call() }

func TestReloader_ReloadsAfterChanges(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CLUSTER", "eu")
	write := func(name, content string) {
		t.Helper()
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
	write("prometheus.yml", "global: {external_labels: {cluster: $(CLUSTER)}}")
	write("rules/a.yml", "groups: []")
	var got reloads
	r := &reloader{
		fs: vfs.OS(),
		config: ReloaderConfig{
			ConfigFile: filepath.Join(dir, "prometheus.yml"), EnvsubstFile: filepath.Join(dir, "out.yml"),
			RuleDirs: []string{filepath.Join(dir, "rules")},
		},
		logger: discard(), metrics: newMetrics(nil), watcher: newWatcher(discard(), nil), reload: got.reload,
	}
	defer r.watcher.notify.Close()
	step := func(reloads int) {
		t.Helper()
		require.NoError(t, r.apply(t.Context()))
		require.Equal(t, reloads, got.count())
	}
	step(1)
	out, err := os.ReadFile(filepath.Join(dir, "out.yml"))
	require.NoError(t, err)
	require.Equal(t, "global: {external_labels: {cluster: eu}}", string(out))
	step(1)
	write("rules/deeper/b.yml", "groups: []")
	step(2)
	require.Len(t, r.watcher.notify.WatchList(), 3)
	require.NoError(t, os.Remove(filepath.Join(dir, "rules/deeper/b.yml")))
	step(3)

	// Kubernetes mounts a link to a directory, which it replaces.
	write("v1/c.yml", "1")
	write("v2/c.yml", "2")
	require.NoError(t, os.Symlink(filepath.Join(dir, "v1"), filepath.Join(dir, "rules/data")))
	step(4)
	require.NoError(t, os.Remove(filepath.Join(dir, "rules/data")))
	require.NoError(t, os.Symlink(filepath.Join(dir, "v2"), filepath.Join(dir, "rules/data")))
	step(5)

	// A failed reload is tried again without a change.
	got.fail(errors.New("bad rules"))
	write("rules/a.yml", "groups: [1]")
	require.ErrorContains(t, r.apply(t.Context()), "bad rules")
	got.fail(nil)
	step(7)

	// Compressed, and with a variable that does not exist.
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, _ = z.Write([]byte("zipped: $(CLUSTER)"))
	require.NoError(t, z.Close())
	write("prometheus.yml", buf.String())
	step(8)
	out, err = os.ReadFile(filepath.Join(dir, "out.yml"))
	require.NoError(t, err)
	require.Equal(t, "zipped: eu", string(out))
	write("prometheus.yml", "a: $(HINDSIGHT_TEST_NOT_SET)")
	require.ErrorContains(t, r.apply(t.Context()), "HINDSIGHT_TEST_NOT_SET")
}

func TestReloader_RunsAtStartAtChangesAndAfterFailures(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.yml")
	synctest.Test(t, func(t *testing.T) {
		var got reloads
		r := &reloader{
			fs: vfs.OS(), config: ReloaderConfig{RuleDirs: []string{dir}, WatchInterval: 3 * time.Minute, RetryInterval: 5 * time.Second},
			logger: discard(), metrics: newMetrics(nil), watcher: quietWatcher(), reload: got.reload,
		}
		go r.run(t.Context())
		after := func(d time.Duration, want int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			require.Equal(t, want, got.count())
		}
		after(0, 1)
		after(10*time.Minute, 1) // without a change there is no reload
		require.NoError(t, os.WriteFile(file, []byte("x"), 0o644))
		after(3*time.Minute, 2)
		require.NoError(t, os.WriteFile(file, []byte("y"), 0o644))
		r.watcher.changes <- struct{}{}
		after(0, 3)
		got.fail(errors.New("bad rules"))
		require.NoError(t, os.WriteFile(file, []byte("z"), 0o644))
		r.watcher.changes <- struct{}{}
		after(0, 4)
		after(5*time.Second, 5)
		got.fail(nil)
		after(5*time.Second, 6)
		after(time.Minute, 6)
	})
}

// Each step of the writing fails once: the output file has its old or its new
// content, and the next try writes the new one.
func TestReloader_KeepsOutputFileWholeAfterEachFailure(t *testing.T) {
	faultfs.EachFailure(t, func(t *testing.T, fsys *faultfs.FS) {
		dir := t.TempDir()
		in, out := filepath.Join(dir, "in.yml"), filepath.Join(dir, "out.yml")
		require.NoError(t, os.WriteFile(in, []byte("new"), 0o644))
		require.NoError(t, os.WriteFile(out, []byte("old"), 0o644))
		r := &reloader{fs: fsys, config: ReloaderConfig{ConfigFile: in, EnvsubstFile: out}}
		content := func() string {
			b, err := os.ReadFile(out)
			require.NoError(t, err)
			return string(b)
		}
		if err := r.substitute(); err != nil {
			require.ErrorIs(t, err, faultfs.ErrInjected)
			require.Contains(t, []string{"old", "new"}, content())
			r.fs = vfs.OS()
			require.NoError(t, r.substitute())
		}
		require.Equal(t, "new", content())
		info, err := os.Stat(out)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o644), info.Mode().Perm())
	})
}

func TestFindProcesses_MatchesExecutable(t *testing.T) {
	proc := t.TempDir()
	for pid, cmdline := range map[string]string{
		"12": "/bin/prometheus\x00--config.file=x\x00", "13": "/bin/sh\x00-c\x00prometheus\x00", "self": "prometheus\x00",
	} {
		require.NoError(t, os.Mkdir(filepath.Join(proc, pid), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(proc, pid, "cmdline"), []byte(cmdline), 0o644))
	}
	pids, err := findProcesses(proc, "prometheus")
	require.NoError(t, err)
	require.Equal(t, []int{12}, pids)
	require.ErrorContains(t, signalReload(proc, "nothing"), "no process named")
}

func TestFingerprint_RefusesLoopOfLinks(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Symlink(dir, filepath.Join(dir, "again")))
	_, err := fingerprintOf(ReloaderConfig{RuleDirs: []string{dir}})
	require.ErrorContains(t, err, "nested more than")
	require.True(t, strings.HasPrefix(err.Error(), "look for changes: "))
}
