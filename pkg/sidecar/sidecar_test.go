package sidecar

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
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
	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom/promtest"
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
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
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

// Prometheus restarts between its first answer and the request for its flags: the sidecar
// asks again. A proxy that hides the flags ends it.
func TestRun_AsksForFlagsAgain(t *testing.T) {
	for code, fails := range map[int]bool{http.StatusServiceUnavailable: false, http.StatusNotFound: true} {
		var asked atomic.Int32
		p := promtest.New(t, promtest.Options{
			ExternalLabels: labels.FromStrings("cluster", "eu"),
			Flags:          map[string]string{minBlockFlag: "2h", maxBlockFlag: "2h"},
			Wrap: func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if strings.HasSuffix(r.URL.Path, "/status/flags") && asked.Add(1) == 1 {
						w.WriteHeader(code)
						return
					}
					h.ServeHTTP(w, r)
				})
			},
		})
		s, err := New(parse(t, "--prometheus.url="+p.URL().String(), "--tsdb.path="+t.TempDir()), Deps{Logger: discard(), Bucket: bucket.NewMemory()})
		require.NoError(t, err)
		require.NoError(t, s.source.wait(t.Context(), time.Minute))
		ship, err := s.newShipping(t.Context())
		if fails {
			require.ErrorContains(t, err, "read how Prometheus cuts blocks: ask /api/v1/status/flags: Prometheus answered 404")
			continue
		}
		require.NoError(t, err)
		ship.watcher.close()
		require.NoError(t, ship.lock.Close())
		require.GreaterOrEqual(t, asked.Load(), int32(2))
	}
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
		require.Equal(t, errorid.PrometheusSettings, errorid.Of(err))
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
	w := newWatcher(discard())
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

// A second sidecar gets the labels of the first: both announce it to queriers.
func TestRun_WarnsOfEqualLabels(t *testing.T) {
	bkt := bucket.NewMemory()
	open := func() *Sidecar {
		p := promtest.New(t, promtest.Options{
			ExternalLabels: labels.FromStrings("cluster", "eu"), Flags: map[string]string{minBlockFlag: "2h", maxBlockFlag: "2h"},
		})
		s, stop := start(t, parse(t, "--prometheus.url="+p.URL().String(), "--tsdb.path="+p.Dir, "--shipper.claim-interval=20ms"), Deps{Bucket: bkt})
		t.Cleanup(func() { require.NoError(t, stop()) })
		return s
	}
	first, second := open(), open()
	for _, s := range []*Sidecar{first, second} {
		require.Eventually(t, func() bool {
			w := s.store.Info().Warnings
			return len(w) == 1 && strings.Contains(w[0], "another source has the same external labels")
		}, 10*time.Second, 10*time.Millisecond)
	}
}
