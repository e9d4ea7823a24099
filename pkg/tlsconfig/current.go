package tlsconfig

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
)

// Current is a value that is built from files, and built again when one of them
// changes. It is safe for concurrent use.
type Current[T any] struct {
	build     Build[T]
	logger    *slog.Logger
	component string

	mu     sync.Mutex
	value  T
	files  []string
	stamps []fs.FileInfo // of files, nil for one that does not exist
	failed string        // the failure that was logged last
}

// Build reads the files and makes the value. It returns their names, also with
// an error when they are known.
type Build[T any] func() (value T, files []string, err error)

// NewCurrent builds the value for the first time; component names it in log lines.
func NewCurrent[T any](component string, logger *slog.Logger, build Build[T]) (*Current[T], error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	c := &Current[T]{build: build, logger: logger, component: component}
	value, files, err := build()
	if err != nil {
		return nil, err
	}
	c.value, c.files, c.stamps = value, files, stamps(files)
	return c, nil
}

// Get returns the value of the newest files. While they are missing or invalid it
// returns the last good value, and logs the error once.
func (c *Current[T]) Get() T {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !same(c.stamps, stamps(c.files)) {
		_ = c.rebuild() // logged
	}
	return c.value
}

// Reload builds the value again, changed or not. After an error the last good
// value stays.
func (c *Current[T]) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rebuild()
}

func (c *Current[T]) rebuild() error {
	// The stamps are taken first: the next call detects a change during the build.
	before := stamps(c.files)
	value, files, err := c.build()
	if err != nil {
		if c.failed != err.Error() {
			c.failed = err.Error()
			c.logger.Warn("file reload failed", "component", c.component, "err", err)
		}
		return fmt.Errorf("reload the files of %s: %w", c.component, err)
	}
	if len(files) != len(before) {
		before = stamps(files)
	}
	c.value, c.files, c.stamps, c.failed = value, files, before, ""
	c.logger.Info("files reloaded", "component", c.component)
	return nil
}

func stamps(files []string) []fs.FileInfo {
	out := make([]fs.FileInfo, len(files))
	for i, f := range files {
		if info, err := os.Stat(f); err == nil {
			out[i] = info
		}
	}
	return out
}

// same also compares size and identity: a new file may have an older time, and time
// stamps may be coarse.
func same(a, b []fs.FileInfo) bool {
	for i := range a {
		switch {
		case a[i] == nil || b[i] == nil:
			return false
		case !a[i].ModTime().Equal(b[i].ModTime()), a[i].Size() != b[i].Size(), !os.SameFile(a[i], b[i]):
			return false
		}
	}
	return true
}
