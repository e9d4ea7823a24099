package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/common/model"

	"github.com/hindsight-io/hindsight/pkg/dirlock"
	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/sidecar/headship"
)

// shipInterval is the time between two passes over the data directory.
const shipInterval = 30 * time.Second

// finalShipTimeout bounds the pass at the end of the process.
const finalShipTimeout = 2 * time.Minute

// Flags of Prometheus that decide whether its blocks can be shipped safely.
const (
	minBlockFlag     = "storage.tsdb.min-block-duration"
	maxBlockFlag     = "storage.tsdb.max-block-duration"
	delayCompactFlag = "storage.tsdb.delay-compact-file.path"
)

// checkBlockDurations refuses to ship from a Prometheus with the given flags if it
// could compact a block before that is shipped: compaction must be off, or wait for
// the shipper.
func checkBlockDurations(promFlags map[string]string, c Config) error {
	if c.Shipper.IgnoreUnequalBlockSize {
		return nil
	}
	stateFile := filepath.Join(c.TSDBPath, c.Shipper.MetaFileName)
	if delay := promFlags[delayCompactFlag]; delay != "" {
		if samePath(delay, stateFile) {
			return nil
		}
		return unsafeSettings(fmt.Errorf(
			"Prometheus runs with --%s=%s, but the shipped blocks are recorded in %s; start Prometheus with --%s=%s",
			delayCompactFlag, delay, stateFile, delayCompactFlag, stateFile))
	}
	shortest, err := durationFlag(promFlags, minBlockFlag)
	if err != nil {
		return err
	}
	longest, err := durationFlag(promFlags, maxBlockFlag)
	if err != nil {
		return err
	}
	if shortest == longest {
		return nil
	}
	return unsafeSettings(fmt.Errorf(
		"Prometheus compacts its blocks (%s to %s), so it could merge one before it is shipped; start Prometheus with --%s=%s --%s=%s, or with --%s=%s",
		shortest, longest, minBlockFlag, shortest, maxBlockFlag, shortest, delayCompactFlag, stateFile))
}

// unsafeSettings is an error of the settings of Prometheus.
func unsafeSettings(err error) error {
	return flags.Invalid(errorid.With(errorid.PrometheusSettings, err))
}

// blockDuration returns the length of the blocks that Prometheus cuts, 0 if it does not
// show it.
func blockDuration(promFlags map[string]string) time.Duration {
	d, err := durationFlag(promFlags, minBlockFlag)
	if err != nil {
		return 0
	}
	return time.Duration(d)
}

// durationFlag returns the value of a flag of Prometheus.
func durationFlag(promFlags map[string]string, name string) (model.Duration, error) {
	d, err := model.ParseDuration(promFlags[name])
	if err != nil {
		return 0, fmt.Errorf("Prometheus shows --%s=%q, which is not a duration: %w", name, promFlags[name], err)
	}
	return d, nil
}

func samePath(a, b string) bool {
	abs := func(p string) string {
		if full, err := filepath.Abs(p); err == nil {
			p = full
		}
		if real, err := filepath.EvalSymlinks(filepath.Dir(p)); err == nil {
			p = filepath.Join(real, filepath.Base(p))
		}
		return p
	}
	return abs(a) == abs(b)
}

// blockShipper uploads the blocks of a data directory that are not in the
// bucket yet.
type blockShipper interface {
	Sync(ctx context.Context) (uploaded int, err error)
}

// shipping runs the shipper at intervals.
type shipping struct {
	shipper blockShipper
	// head ships the logs of the head; nil is off.
	head    *headship.Shipper
	lock    *dirlock.Lock
	watcher *watcher
	logger  *slog.Logger
	metrics *metrics
	// check says whether Prometheus may compact blocks before they are shipped; nil never.
	check   func(ctx context.Context) error
	checked time.Time
}

// flagsInterval is the time between two looks at the flags of Prometheus, which may have
// others after a restart.
const flagsInterval = 5 * time.Minute

// checkFlags reports when Prometheus was restarted with flags that make shipping unsafe.
// The sidecar goes on, because ending would ship nothing at all.
func (s *shipping) checkFlags(ctx context.Context) {
	if s.check == nil || time.Since(s.checked) < flagsInterval {
		return
	}
	s.checked = time.Now()
	switch err := s.check(ctx); {
	case flags.IsInvalid(err):
		s.metrics.unsafe.Set(1)
		s.logger.Error("blocks may be compacted before they are shipped", "err", err)
	case err == nil:
		s.metrics.unsafe.Set(0)
	}
}

// run ships every interval, and soon after a new block, until ctx is cancelled;
// then once more, because Prometheus may cut a block while it stops.
func (s *shipping) run(ctx context.Context) {
	tick := time.NewTicker(shipInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		_, err := s.shipper.Sync(ctx)
		s.observe(ctx, err)
		s.checkFlags(ctx)
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-s.watcher.changes:
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finalShipTimeout)
	defer cancel()
	_, err := s.shipper.Sync(ctx)
	s.observe(ctx, err)
}

// observe counts and logs the result of one pass. A cancelled pass is no failure.
func (s *shipping) observe(ctx context.Context, err error) {
	switch {
	case err == nil:
		s.metrics.lastShipped.SetToCurrentTime()
	case ctx.Err() == nil:
		s.metrics.shipFailures.Inc()
		s.logger.Error("shipping of blocks failed", "err", err)
	}
}

// lockUploads locks the directory for uploads within the data directory: a second
// sidecar would delete the links that this one uploads from, and both would write
// one state file.
func lockUploads(tsdbPath string, logger *slog.Logger) (*dirlock.Lock, error) {
	dir := filepath.Join(tsdbPath, "thanos")
	lock, err := dirlock.Part(dir, "sidecar")
	if errors.Is(err, dirlock.ErrCannotLock) {
		logger.Warn("cannot lock upload directory", "dir", dir, "err", err)
		return nil, nil
	}
	return lock, flags.Invalid(err)
}

// checkDataDir returns an error unless dir can be the data directory of Prometheus.
func checkDataDir(dir string) error {
	st, err := os.Stat(dir)
	if err != nil {
		return flags.Invalid(fmt.Errorf("--tsdb.path must be the data directory of Prometheus: %w", err))
	}
	if !st.IsDir() {
		return flags.Invalid(fmt.Errorf("--tsdb.path=%s is not a directory; it must be the data directory of Prometheus", dir))
	}
	return nil
}
