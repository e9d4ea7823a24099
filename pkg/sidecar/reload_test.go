package sidecar

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/vfs"
	"github.com/hindsight-io/hindsight/pkg/vfs/faultfs"
)

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
		logger: discard(), metrics: newReloaderMetrics(nil), watcher: newWatcher(discard()), reload: got.reload,
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
			logger: discard(), metrics: newReloaderMetrics(nil), watcher: quietWatcher(), reload: got.reload,
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
		r := &reloader{fs: fsys, config: ReloaderConfig{ConfigFile: in, EnvsubstFile: out}, metrics: newReloaderMetrics(nil)}
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
	require.ErrorContains(t, sendReload(proc, "nothing"), "no process named")
}

// Links to directories above are followed once, pipes are not opened, and the versions
// of a Kubernetes mount are read through the visible names only.
func TestScan_FollowsLinksOnceAndSkipsPipes(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b", "c"} {
		require.NoError(t, os.Symlink(dir, filepath.Join(dir, name)))
	}
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	require.NoError(t, os.Symlink("nowhere", filepath.Join(dir, "dangling")))
	rules := ReloaderConfig{RuleDirs: []string{dir}}
	before, err := scan(rules)
	require.NoError(t, err)
	require.Equal(t, []string{dir}, before.dirs)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "..2026"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "..2026/r.yml"), []byte("x"), 0o600))
	after, err := scan(rules)
	require.NoError(t, err)
	require.Equal(t, before.sum, after.sum, "not visible")
	require.NoError(t, os.Symlink("..2026/r.yml", filepath.Join(dir, "r.yml")))
	after, err = scan(rules)
	require.NoError(t, err)
	require.NotEqual(t, before.sum, after.sum)
	require.Equal(t, []string{dir, filepath.Join(dir, "..2026")}, after.dirs)

	_, err = scan(ReloaderConfig{ConfigFile: filepath.Join(dir, "pipe")})
	require.ErrorContains(t, err, "is not a regular file")
	deep := filepath.Join(dir, strings.Repeat("d/", maxDepth+1))
	require.NoError(t, os.MkdirAll(deep, 0o755))
	_, err = scan(rules)
	require.ErrorContains(t, err, "nested more than 16 directories deep")
}

func TestDirsOf_ReturnsDirectoriesOfAllLinks(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.MkdirAll(in("mount/..v1"), 0o755))
	require.NoError(t, os.MkdirAll(in("etc"), 0o755))
	require.NoError(t, os.WriteFile(in("mount/..v1/p.yml"), nil, 0o600))
	require.NoError(t, os.Symlink("..v1", in("mount/..data")))
	require.NoError(t, os.Symlink("..data/p.yml", in("mount/p.yml")))
	require.NoError(t, os.Symlink(in("mount/p.yml"), in("etc/p.yml")))
	require.Equal(t, []string{in("etc"), in("mount"), in("mount"), in("mount/..v1")}, dirsOf(in("etc/p.yml")))
	require.Equal(t, []string{in("etc")}, dirsOf(in("etc/not/there/yet")))
	require.NoError(t, os.Symlink("loop", in("loop")))
	require.Len(t, dirsOf(in("loop")), maxLinks+1)
}

// A configuration that Prometheus refuses is sent again after growing pauses, a server
// that does not answer after the same pause, and a change at once.
func TestReloader_BacksOffWhenConfigurationIsRefused(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.yml")
	synctest.Test(t, func(t *testing.T) {
		var got reloads
		reg := prometheus.NewRegistry()
		var log bytes.Buffer
		r := &reloader{
			fs: vfs.OS(), config: ReloaderConfig{RuleDirs: []string{dir}, WatchInterval: time.Minute, RetryInterval: 5 * time.Second},
			logger: slog.New(slog.NewTextHandler(&log, nil)), metrics: newReloaderMetrics(reg), watcher: quietWatcher(), reload: got.reload,
		}
		got.fail(&prom.Error{Op: "reload", Status: http.StatusInternalServerError, Msg: "bad rules"})
		go r.run(t.Context())
		after := func(d time.Duration, want int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			require.Equal(t, want, got.count())
		}
		after(0, 1)
		after(5*time.Second, 2)
		after(10*time.Second, 3)
		after(20*time.Second, 4)
		after(40*time.Second, 5)
		after(10*time.Minute, 15) // every minute
		require.Equal(t, 15, strings.Count(log.String(), "bad rules"))
		for _, name := range []string{"", "hindsight_sidecar_"} {
			require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(strings.ReplaceAll(`
# HELP NAMEreloader_last_reload_successful Whether the last check of the files, with its reload, succeeded.
# TYPE NAMEreloader_last_reload_successful gauge
NAMEreloader_last_reload_successful 0
# HELP NAMEreloader_reloads_failed_total Attempts to make Prometheus reload its configuration that failed.
# TYPE NAMEreloader_reloads_failed_total counter
NAMEreloader_reloads_failed_total 15
`, "NAME", name)), name+"reloader_last_reload_successful", name+"reloader_reloads_failed_total"))
		}
		require.NoError(t, os.WriteFile(file, []byte("x"), 0o644))
		r.watcher.changes <- struct{}{}
		after(0, 16)
		after(5*time.Second, 17)

		got.fail(&prom.Error{Op: "reload", Status: http.StatusServiceUnavailable})
		after(10*time.Second, 18)
		log.Reset()
		for i := range 10 {
			after(20*time.Second, 19+i)
		}
		require.Zero(t, strings.Count(log.String(), "level=ERROR"), log.String())
		got.fail(nil)
		after(20*time.Second, 29)
		require.InDelta(t, 1, testutil.ToFloat64(r.metrics.reloadSuccess), 0)
		after(10*time.Minute, 29)
	})
}

func TestReloader_ToleratesUnsetVariablesWhenTold(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in.yml"), filepath.Join(dir, "out.yml")
	t.Setenv("HINDSIGHT_TEST_SET", "set")
	require.NoError(t, os.WriteFile(in, []byte("$(HINDSIGHT_TEST_SET) $(HINDSIGHT_TEST_UNSET) $(HINDSIGHT_TEST_UNSET) $1 $$"), 0o644))
	r := &reloader{
		fs: vfs.OS(), config: ReloaderConfig{ConfigFile: in, EnvsubstFile: out}, logger: discard(),
		metrics: newReloaderMetrics(nil), watcher: quietWatcher(), reload: func(context.Context) error { return nil },
	}
	err := r.apply(t.Context())
	require.ErrorContains(t, err, "not set: HINDSIGHT_TEST_UNSET; set them, or give --reloader.tolerate-unset-variables")
	require.NoFileExists(t, out)
	require.InDelta(t, 1, testutil.ToFloat64(r.metrics.unset), 0)
	require.InDelta(t, 1, testutil.ToFloat64(r.metrics.applyFailures), 0)
	r.config.TolerateUnset = true
	require.NoError(t, r.apply(t.Context()))
	b, err := os.ReadFile(out)
	require.NoError(t, err)
	require.Equal(t, "set $(HINDSIGHT_TEST_UNSET) $(HINDSIGHT_TEST_UNSET) $1 $$", string(b))
}

func TestReloader_SeesDirectoriesThatAppearLater(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	var got reloads
	r := &reloader{
		fs: vfs.OS(), config: ReloaderConfig{RuleDirs: []string{in("late/rules"), in("team-*/rules/*.yml")}}, logger: discard(),
		metrics: newReloaderMetrics(nil), watcher: newWatcher(discard()), reload: got.reload,
	}
	defer r.watcher.notify.Close()
	step := func(want int, watched ...string) {
		t.Helper()
		require.NoError(t, r.apply(t.Context()))
		require.Equal(t, want, got.count())
		require.ElementsMatch(t, watched, r.watcher.notify.WatchList())
	}
	step(1, dir)
	require.Equal(t, []string{in("late/rules")}, r.absent)
	require.NoError(t, os.Mkdir(in("late"), 0o755))
	step(1, dir, in("late"))
	require.NoError(t, os.Mkdir(in("late/rules"), 0o755))
	step(1, dir, in("late/rules"))
	require.NoError(t, os.WriteFile(in("late/rules/a.yml"), nil, 0o644))
	step(2, dir, in("late/rules"))
	require.Empty(t, r.absent)

	// By a pattern, whose other files do not count.
	require.NoError(t, os.MkdirAll(in("team-a/rules"), 0o755))
	step(2, dir, in("late/rules"), in("team-a"), in("team-a/rules"))
	require.NoError(t, os.WriteFile(in("team-a/rules/notes.txt"), nil, 0o644))
	step(2, dir, in("late/rules"), in("team-a"), in("team-a/rules"))
	require.NoError(t, os.WriteFile(in("team-a/rules/r.yml"), nil, 0o644))
	step(3, dir, in("late/rules"), in("team-a"), in("team-a/rules"))
	require.NoError(t, os.RemoveAll(in("late")))
	step(4, dir, in("team-a"), in("team-a/rules"))
}

// promState is a Prometheus that gets signals, in a bubble of fake time.
type promState struct {
	state   prom.ReloadState
	results []bool // of the next signals
	takes   time.Duration
	sent    time.Time
}

func (p *promState) send() error {
	p.sent = time.Now()
	return nil
}

func (p *promState) get(context.Context) (prom.ReloadState, error) {
	if !p.sent.IsZero() && time.Since(p.sent) >= p.takes {
		p.state.Success = p.results[0]
		if p.state.Success {
			p.state.Time = p.sent.Add(p.takes).Truncate(time.Second)
		}
		p.results, p.sent = p.results[1:], time.Time{}
	}
	return p.state, nil
}

func TestSignaller_ReportsWhetherPrometheusReloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &promState{state: prom.ReloadState{Success: true, Time: time.Now()}, results: []bool{true, true, false, false, true, false}, takes: 300 * time.Millisecond}
		s := &signaller{send: p.send, state: p.get}
		require.NoError(t, s.reload(t.Context()))
		require.NoError(t, s.reload(t.Context()), "in the same second")
		require.ErrorIs(t, s.reload(t.Context()), errRefusedSilently)
		start := time.Now()
		require.ErrorIs(t, s.reload(t.Context()), errRefusedSilently)
		require.Greater(t, time.Since(start), signalPatience)
		require.NoError(t, s.reload(t.Context()))
		require.ErrorIs(t, s.reload(t.Context()), errRefusedSilently)

		p.takes, p.results = time.Hour, []bool{true}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p.state.Success = true
		require.ErrorIs(t, s.reload(ctx), context.DeadlineExceeded)
		s.state = func(context.Context) (prom.ReloadState, error) {
			return prom.ReloadState{}, &prom.Error{Status: http.StatusNotFound}
		}
		require.NoError(t, s.reload(t.Context()), "too old to say")
	})
}
