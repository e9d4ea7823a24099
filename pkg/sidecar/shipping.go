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
	"github.com/hindsight-io/hindsight/pkg/flags"
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

// checkBlockDurations says whether blocks can be shipped from a Prometheus that
// runs with the given flags. A server that compacts its blocks may replace one
// before it was shipped, so compaction must be off, or wait for the shipper.
func checkBlockDurations(promFlags map[string]string, c Config) error {
	if c.Shipper.IgnoreUnequalBlockSize {
		return nil
	}
	stateFile := filepath.Join(c.TSDBPath, c.Shipper.MetaFileName)
	if delay := promFlags[delayCompactFlag]; delay != "" {
		if samePath(delay, stateFile) {
			return nil
		}
		return flags.Invalid(fmt.Errorf(
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
	return flags.Invalid(fmt.Errorf(
		"Prometheus compacts its blocks (%s to %s), so it could merge one before it is shipped; start Prometheus with --%s=%s --%s=%s, or with --%s=%s",
		shortest, longest, minBlockFlag, shortest, maxBlockFlag, shortest, delayCompactFlag, stateFile))
}

func durationFlag(promFlags map[string]string, name string) (model.Duration, error) {
	d, err := model.ParseDuration(promFlags[name])
	if err != nil {
		return 0, fmt.Errorf("Prometheus shows --%s=%q, which is no duration: %w", name, promFlags[name], err)
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

// shipping runs the shipper on time.
type shipping struct {
	shipper blockShipper
	lock    *dirlock.Lock
	watcher *watcher
	logger  *slog.Logger
	metrics *metrics
}

// run ships every interval, and soon after a block appeared, until ctx is
// cancelled; then once more, because Prometheus may have cut a block while it
// was stopping.
func (s *shipping) run(ctx context.Context) {
	tick := time.NewTicker(shipInterval)
	defer tick.Stop()
	for {
		s.pass(ctx)
		select {
		case <-ctx.Done():
			final, cancel := context.WithTimeout(context.WithoutCancel(ctx), finalShipTimeout)
			defer cancel()
			s.pass(final)
			return
		case <-tick.C:
		case <-s.watcher.changes:
		}
	}
}

func (s *shipping) pass(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	if _, err := s.shipper.Sync(ctx); err != nil {
		if ctx.Err() == nil {
			s.metrics.shipFailures.Inc()
			s.logger.Error("could not ship all blocks", "err", err)
		}
		return
	}
	s.metrics.lastShipped.SetToCurrentTime()
}

// lockUploads locks the folder for uploads in the data directory: a second
// sidecar on the same directory would delete the links that this one uploads
// from, and both would write one state file.
func lockUploads(tsdbPath string, logger *slog.Logger) (*dirlock.Lock, error) {
	lock, err := dirlock.Part(filepath.Join(tsdbPath, "thanos"), "sidecar")
	if errors.Is(err, dirlock.ErrCannotLock) {
		logger.Warn("folder for uploads cannot be locked; no other sidecar may ship from this data directory", "err", err)
		return nil, nil
	}
	return lock, flags.Invalid(err)
}

// checkDataDir says whether dir can be Prometheus's data directory.
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
