package sidecar

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// reloader makes Prometheus reload its configuration when the files have changed.
type reloader struct {
	fs      vfs.FS
	config  ReloaderConfig
	logger  *slog.Logger
	metrics *metrics
	watcher *watcher
	// reload triggers one reload.
	reload func(ctx context.Context) error

	applied fingerprint
}

// reloadTimeout bounds one attempt. Prometheus answers after it has loaded the
// configuration, which takes some time with many rules.
const reloadTimeout = time.Minute

// run checks the files at once, after each change, and every watch interval, until
// ctx is cancelled. The first check always reloads: Prometheus may have started
// before the files were in place.
func (r *reloader) run(ctx context.Context) {
	for {
		pause := r.config.WatchInterval
		if err := r.apply(ctx); err != nil && ctx.Err() == nil {
			pause = r.config.RetryInterval
			r.logger.Error("reload of prometheus failed", "retry_after", pause, "err", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-r.watcher.changes:
			timer.Stop()
		}
	}
}

// apply writes the substituted configuration, and reloads if the files differ from
// those of the last successful reload.
func (r *reloader) apply(ctx context.Context) error {
	r.metrics.watches.Set(float64(r.watcher.set(watchDirs(r.config))))
	if err := r.substitute(); err != nil {
		return err
	}
	now, err := fingerprintOf(r.config)
	if err != nil {
		return err
	}
	if now == r.applied {
		return nil
	}
	r.metrics.reloads.Inc()
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	if err := r.reload(ctx); err != nil {
		r.metrics.reloadFailures.Inc()
		r.metrics.reloadSuccess.Set(0)
		return err
	}
	r.applied = now
	r.metrics.reloadSuccess.Set(1)
	r.metrics.lastReload.SetToCurrentTime()
	r.logger.Info("prometheus reloaded its configuration", "file", r.config.ConfigFile, "dirs", r.config.RuleDirs)
	return nil
}

// substitute replaces the output file, if one is configured, when its content
// differs.
func (r *reloader) substitute() error {
	if r.config.EnvsubstFile == "" {
		return nil
	}
	raw, err := readConfig(r.config.ConfigFile)
	if err != nil {
		return err
	}
	out, err := flags.ExpandEnv(raw)
	if err != nil {
		return fmt.Errorf("substitute in %s: %w", r.config.ConfigFile, err)
	}
	if old, err := r.fs.ReadFile(r.config.EnvsubstFile); err == nil && bytes.Equal(old, out) {
		return nil
	}
	// Prometheus may run as another user, so all users may read the file.
	if err := vfs.WriteBytes(r.fs, r.config.EnvsubstFile, 0o644, out); err != nil {
		return fmt.Errorf("write the substituted configuration: %w", err)
	}
	return nil
}

// maxConfigFile bounds a decompressed configuration file.
const maxConfigFile = 256 << 20

// readConfig reads a configuration file, which may be compressed with gzip.
func readConfig(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer f.Close()
	var magic [2]byte
	n, err := io.ReadFull(f, magic[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var r io.Reader = io.MultiReader(bytes.NewReader(magic[:n]), f)
	if magic == [2]byte{0x1f, 0x8b} {
		if r, err = gzip.NewReader(r); err != nil {
			return nil, fmt.Errorf("decompress %s: %w", name, err)
		}
	}
	b, err := io.ReadAll(io.LimitReader(r, maxConfigFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxConfigFile {
		return nil, fmt.Errorf("read %s: larger than %d bytes", name, maxConfigFile)
	}
	return b, nil
}

// signalReload sends SIGHUP to the processes whose executable has the name.
func signalReload(procDir, name string) error {
	pids, err := findProcesses(procDir, name)
	if err != nil {
		return err
	}
	if len(pids) == 0 {
		return fmt.Errorf("no process named %q is running here; the containers must share their process namespace", name)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
			return fmt.Errorf("send SIGHUP to process %d (%s): %w", pid, name, err)
		}
	}
	return nil
}

// findProcesses reads the process table below procDir.
func findProcesses(procDir, name string) ([]int, error) {
	entries, err := os.ReadDir(procDir)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// A process may end while the list is read.
		cmdline, err := os.ReadFile(filepath.Join(procDir, e.Name(), "cmdline"))
		if err != nil {
			continue
		}
		exe, _, _ := strings.Cut(string(cmdline), "\x00")
		if filepath.Base(exe) == name {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
