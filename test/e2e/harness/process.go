package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Process is one running program. Its output goes to a file.
type Process struct {
	Name string
	Log  string

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // of Wait; valid after done

	// wall and monotonic are what the clocks of the process are ahead of those of the machine.
	wall, monotonic time.Duration
}

// Start runs a program with its output in dir/NAME.log (appended). The process
// is killed when this one ends, so that no process outlives a test.
func Start(dir, name, bin string, args ...string) (*Process, error) {
	return StartEnv(dir, nil, name, bin, args...)
}

// StartEnv is Start with additional environment variables.
func StartEnv(dir string, env []string, name, bin string, args ...string) (*Process, error) {
	if err := noteSources(); err != nil {
		return nil, err
	}
	logFile := filepath.Join(dir, name+".log")
	f, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", name, err)
	}
	p := &Process{Name: name, Log: logFile, cmd: exec.Command(bin, args...), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, f, f
	p.cmd.Env = append(os.Environ(), env...)
	// A group of its own, so that Ctrl-C on a terminal reaches the demo alone.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error)
	go func() {
		// The death signal is sent when the starting thread ends, so that
		// thread must live as long as the process.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer f.Close()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Running reports whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal; to a process that has ended it does nothing.
func (p *Process) Signal(s os.Signal) {
	if p.Running() {
		_ = p.cmd.Process.Signal(s)
	}
}

// Kill ends the process as a crash would (SIGKILL) and waits for its end.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Stop asks the process to end (SIGTERM) and waits; it is killed when it has
// not ended after the time given, which is an error, as is an exit code other
// than 0.
func (p *Process) Stop(within time.Duration) error {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		if p.err != nil && !p.diedOfTerm() {
			return fmt.Errorf("%s ended with: %w; the end of its log:\n%s", p.Name, p.err, p.Tail(20))
		}
		return nil
	case <-time.After(within):
		p.Kill()
		return fmt.Errorf("%s did not stop within %s; the end of its log:\n%s", p.Name, within, p.Tail(20))
	}
}

// diedOfTerm reports whether SIGTERM ended a program that does not handle it, as some
// programs of other projects. Hindsight must handle it.
func (p *Process) diedOfTerm() bool {
	var exit *exec.ExitError
	if !errors.As(p.err, &exit) || filepath.Base(p.cmd.Path) == "hindsight" {
		return false
	}
	st, ok := exit.Sys().(syscall.WaitStatus)
	return ok && st.Signaled() && st.Signal() == syscall.SIGTERM
}

// Wait returns the exit code, or an error when the process does not end in time.
func (p *Process) Wait(within time.Duration) (int, error) {
	select {
	case <-p.done:
	case <-time.After(within):
		return 0, fmt.Errorf("%s has not ended after %s", p.Name, within)
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, p.err
}

// Output returns the whole log.
func (p *Process) Output() string {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Tail returns the last lines of the log.
func (p *Process) Tail(lines int) string {
	all := strings.Split(strings.TrimRight(p.Output(), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
