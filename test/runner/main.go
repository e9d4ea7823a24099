// Command runner runs go test with the arguments given, prints each package as it
// ends and the output of failed tests, and closes with the number of tests that
// passed. With -also DIR first it does the same in the module in DIR.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

func main() {
	code, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "runner:", err)
		os.Exit(2)
	}
	os.Exit(code)
}

// event is one line of go test -json (see go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64
	Output  string
}

type summary struct {
	out                     io.Writer
	passed, failed, skipped int
	broken                  []string // packages that failed without a failing test
	output                  map[string]*strings.Builder
	failedIn                map[string]bool
}

// run runs go test in the module of the working directory and in those that -also
// names, and returns the exit code of all of them.
func run(args []string, out io.Writer) (int, error) {
	dirs := []string{"."}
	for len(args) > 1 && args[0] == "-also" {
		dirs, args = append(dirs, args[1]), args[2:]
	}
	start := time.Now()
	s := &summary{out: out, output: map[string]*strings.Builder{}, failedIn: map[string]bool{}}
	failed := false
	for _, dir := range dirs {
		ok, err := s.module(dir, args)
		if err != nil {
			return 0, err
		}
		failed = failed || !ok
	}
	code := s.close(time.Since(start))
	if failed && code == 0 {
		code = 1
	}
	return code, nil
}

// module runs go test in one directory; ok is false when it failed. Tests of other
// modules read files of this one, whose changes go test does not see there, so that their
// results must not come from its cache. The end-to-end tests take about the ten minutes that
// go test allows by itself.
func (s *summary) module(dir string, args []string) (ok bool, err error) {
	if dir != "." {
		args = append([]string{"-count=1"}, args...)
	}
	cmd := exec.Command("go", append([]string{"test", "-json", "-timeout=30m"}, args...)...)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return false, fmt.Errorf("connect to go test: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return false, fmt.Errorf("start go test: %w", err)
	}
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			s.line(line)
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return false, fmt.Errorf("run go test in %s: %w", dir, err)
	}
	return err == nil, nil
}

func (s *summary) line(b []byte) {
	var e event
	if err := json.Unmarshal(b, &e); err != nil {
		fmt.Fprintf(s.out, "%s", b)
		return
	}
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		if s.output[key] == nil {
			s.output[key] = &strings.Builder{}
		}
		s.output[key].WriteString(e.Output)
	case "pass", "fail", "skip":
		s.end(e, key)
	case "build-fail":
		fmt.Fprint(s.out, s.take(key))
	}
}

func (s *summary) take(key string) string {
	b := s.output[key]
	delete(s.output, key)
	if b == nil {
		return ""
	}
	return b.String()
}

func (s *summary) end(e event, key string) {
	text := s.take(key)
	if e.Test == "" {
		s.endPackage(e, text)
		return
	}
	switch e.Action {
	case "pass":
		s.passed++
	case "skip":
		s.skipped++
	case "fail":
		s.failed++
		s.failedIn[e.Package] = true
		fmt.Fprint(s.out, text)
	}
}

func (s *summary) endPackage(e event, text string) {
	switch e.Action {
	case "pass":
		fmt.Fprintf(s.out, "ok    %7.1fs  %s\n", e.Elapsed, e.Package)
	case "fail":
		fmt.Fprintf(s.out, "FAIL  %7.1fs  %s\n", e.Elapsed, e.Package)
		if !s.failedIn[e.Package] {
			s.broken = append(s.broken, e.Package)
			fmt.Fprint(s.out, text)
		}
	}
}

// close prints the totals and returns the exit code.
func (s *summary) close(elapsed time.Duration) int {
	failed := s.failed + len(s.broken)
	for _, p := range s.broken {
		fmt.Fprintf(s.out, "FAIL: package %s failed outside of a test\n", p)
	}
	fmt.Fprintf(s.out, "took %s\n", elapsed.Round(time.Second))
	fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped\n", s.passed, failed, s.skipped)
	if failed > 0 || s.passed == 0 {
		return 1
	}
	return 0
}
