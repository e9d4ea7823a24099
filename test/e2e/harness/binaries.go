package harness

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// Binaries are the paths of the programs that the processes run.
type Binaries struct {
	Hindsight    string
	Prometheus   string
	Promtool     string
	NodeExporter string
	S3           string
}

// Build returns all programs. Those of other projects come from the pinned
// module test/e2e/tools and are built once for each state of it into a cache
// directory; hindsight is built from the tree into dir, with the flags of go build. progress
// gets one line for each long step.
func Build(dir string, progress io.Writer, flags ...string) (Binaries, error) {
	root, err := Root()
	if err != nil {
		return Binaries{}, err
	}
	tools, err := buildTools(filepath.Join(root, "test/e2e/tools"), progress)
	if err != nil {
		return Binaries{}, err
	}
	b := Binaries{
		Hindsight:    filepath.Join(dir, "hindsight"),
		Prometheus:   filepath.Join(tools, "prometheus"),
		Promtool:     filepath.Join(tools, "promtool"),
		NodeExporter: filepath.Join(tools, "node_exporter"),
		S3:           filepath.Join(tools, "versitygw"),
	}
	args := append([]string{"build", "-o", b.Hindsight}, flags...)
	return b, goTool(root, progress, append(args, "./cmd/hindsight")...)
}

// noteSources opens every file that hindsight is built from, so that go test does
// not take a cached result when one of them has changed. go test records the files
// that tests open; it records neither those of a build that a test starts nor
// those that are opened before the first test.
func noteSources() error {
	root, err := Root()
	if err != nil {
		return err
	}
	for _, dir := range []string{"cmd", "pkg"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("read the sources: %w", err)
		}
	}
	_, err = os.Stat(filepath.Join(root, "go.sum"))
	return err
}

// Root returns the directory of the repository, which the working directory is
// in. Tests run in the directory of their package.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for at := dir; ; at = filepath.Dir(at) {
		b, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module github.com/hindsight-io/hindsight\n") {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("find the repository: no directory above %s holds its go.mod; run this inside of the repository", dir)
		}
	}
}

// buildTools builds the pinned programs unless a build of the same pins is in
// the cache.
func buildTools(module string, progress io.Writer) (string, error) {
	key, err := pins(module)
	if err != nil {
		return "", err
	}
	return once(key, func(dir string) error {
		fmt.Fprintf(progress, "building Prometheus, node_exporter and an S3 server into %s (once; takes minutes)\n", dir)
		// Prometheus without its service discoveries builds in half the time; the
		// tests use static targets only.
		return goTool(module, progress, "build", "-tags", "remove_all_sd", "-ldflags", "-s -w", "-o", dir+"/",
			"github.com/prometheus/prometheus/cmd/prometheus",
			"github.com/prometheus/prometheus/cmd/promtool",
			"github.com/prometheus/node_exporter",
			"github.com/versity/versitygw/cmd/versitygw")
	})
}

// once builds something into a directory of the user's cache unless it is there
// already. A lock file keeps two runs from building the same at once.
func once(key string, build func(dir string) error) (dir string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache directory for the test programs: %w", err)
	}
	dir = filepath.Join(cache, "hindsight-e2e", key)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache directory of the test programs: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	done := filepath.Join(dir, "complete")
	if _, err := os.Stat(done); err == nil {
		return dir, nil
	}
	if err := build(dir); err != nil {
		return "", err
	}
	return dir, os.WriteFile(done, nil, 0o644)
}

// pins names the state of the tools module.
func pins(module string) (string, error) {
	h := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", fmt.Errorf("read the pins of the test programs: %w", err)
		}
		h.Write(b)
	}
	fmt.Fprint(h, runtime.Version())
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the test programs: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the test programs: %w", err)
	}
	return func() { f.Close() }, nil
}

// goTool runs the go command in dir.
func goTool(dir string, progress io.Writer, args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = progress, progress
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go %v in %s: %w", args, dir, err)
	}
	return nil
}
