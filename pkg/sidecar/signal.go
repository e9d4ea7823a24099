package sidecar

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hindsight-io/hindsight/pkg/errorid"
	"github.com/hindsight-io/hindsight/pkg/sidecar/prom"
)

// signaller reloads Prometheus by SIGHUP and asks it for the result.
type signaller struct {
	// send sends the signal.
	send func() error
	// state reads the result of the last reload.
	state func(ctx context.Context) (prom.ReloadState, error)
}

const (
	// signalPoll is the time between two requests for the result.
	signalPoll = 250 * time.Millisecond
	// signalPatience is how long the result may stay a failure after one that failed:
	// Prometheus does not say which reload it is of.
	signalPatience = 10 * time.Second
)

var errRefusedSilently = errorid.Sentinel(errorid.PrometheusRefused, "Prometheus refused the configuration after SIGHUP; its log has the reason")

// reload sends the signal and waits for the result, until ctx is done. Prometheus dates
// its reloads in whole seconds, so a reload waits for the second after the last one.
func (s *signaller) reload(ctx context.Context) error {
	before, err := s.state(ctx)
	if hidden(err) {
		return s.send() // too old to report the result
	} else if err != nil {
		return err
	}
	for time.Now().Unix() <= before.Time.Unix() {
		if err := pause(ctx, signalPoll); err != nil {
			return err
		}
	}
	if err := s.send(); err != nil {
		return err
	}
	for sent := time.Now(); ; {
		if err := pause(ctx, signalPoll); err != nil {
			return fmt.Errorf("wait for the reload after SIGHUP: %w", err)
		}
		now, err := s.state(ctx)
		switch {
		case err != nil:
			return err
		case now.Success && (!before.Success || now.Time.After(before.Time)):
			return nil
		case !now.Success && (before.Success || time.Since(sent) > signalPatience):
			return errRefusedSilently
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// sendReload sends SIGHUP to the processes whose executable has the name.
func sendReload(procDir, name string) error {
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
