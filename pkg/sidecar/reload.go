package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// reloader makes Prometheus reload its configuration when the files have changed.
type reloader struct {
	fs      vfs.FS
	config  ReloaderConfig
	logger  *slog.Logger
	metrics *reloaderMetrics
	watcher *watcher
	// reload triggers one reload, and returns an error when Prometheus refuses the
	// configuration.
	reload func(ctx context.Context) error

	applied fingerprint
	logged  string   // the last logged error
	absent  []string // rule directories that did not exist at the last check
	unset   []string // environment variables that were not set then
}

// reloadTimeout bounds one attempt. Prometheus answers after it has loaded the
// configuration, which takes some time with many rules.
const reloadTimeout = time.Minute

// errNotUp marks errors of a server that does not answer, which therefore has not
// refused the configuration.
var errNotUp = errorid.Sentinel(errorid.PrometheusDown, "Prometheus does not answer")

// run checks the files at once, after each change, and every watch interval, until
// ctx is cancelled. The first check always reloads: Prometheus may have started
// before the files were in place. The pauses after a refused configuration grow from
// the retry interval to the watch interval, until a file changes.
func (r *reloader) run(ctx context.Context) {
	retry := r.config.RetryInterval
	for {
		wait := r.config.WatchInterval
		err := r.apply(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			wait = retry
			if !errors.Is(err, errNotUp) {
				retry = min(2*retry, max(r.config.WatchInterval, r.config.RetryInterval))
			}
		} else {
			retry = r.config.RetryInterval
		}
		r.log(err, wait)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-r.watcher.changes:
			timer.Stop()
			retry = r.config.RetryInterval
		}
	}
}

// log writes an error, but not again while Prometheus does not answer.
func (r *reloader) log(err error, retry time.Duration) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if err != nil && (text != r.logged || !errors.Is(err, errNotUp)) {
		r.logger.Error("reload of prometheus failed", "retry_after", retry, "err", err)
	}
	r.logged = text
}

// apply writes the substituted configuration, and reloads if the files differ from
// those of the last successful reload.
func (r *reloader) apply(ctx context.Context) error {
	r.metrics.applies.Inc()
	err := r.check(ctx)
	if err != nil {
		r.metrics.applyFailures.Inc()
		r.metrics.reloadSuccess.Set(0)
	}
	return err
}

// check is apply without its metrics.
func (r *reloader) check(ctx context.Context) error {
	now, err := scan(r.config)
	// Also after an error: the missing file is watched for.
	r.metrics.watches.Set(float64(r.watcher.set(now.dirs)))
	if !slices.Equal(now.absent, r.absent) {
		r.absent = now.absent
		r.logger.Warn("rule directories missing", "dirs", now.absent)
	}
	if err != nil {
		return err
	}
	if err := r.substitute(); err != nil {
		return err
	}
	if now.sum == r.applied {
		r.metrics.reloadSuccess.Set(1)
		return nil
	}
	r.metrics.reloads.Inc()
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	if err := r.reload(ctx); err != nil {
		r.metrics.reloadFailures.Inc()
		if unanswered(err) {
			return fmt.Errorf("%w: %w", errNotUp, err)
		}
		return err
	}
	r.applied = now.sum
	r.metrics.reloadSuccess.Set(1)
	r.metrics.lastReload.SetToCurrentTime()
	r.logger.Info("prometheus reloaded its configuration", "file", r.config.ConfigFile, "dirs", r.config.RuleDirs)
	return nil
}

// unanswered says whether a reload failed because the server does not run or still
// starts.
func unanswered(err error) bool {
	var pe *prom.Error
	if errors.As(err, &pe) {
		return pe.Status == http.StatusBadGateway || pe.Status == http.StatusServiceUnavailable || pe.Status == http.StatusGatewayTimeout
	}
	return !errors.Is(err, errRefusedSilently)
}
