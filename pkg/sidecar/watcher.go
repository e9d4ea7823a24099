package sidecar

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is the time over which changes are joined into one report.
const settle = time.Second

// watcher reports changes in directories. Where the system cannot watch it reports
// nothing, so its users also poll.
type watcher struct {
	// changes receives a value after a change, and holds at most one.
	changes chan struct{}

	notify *fsnotify.Watcher
	logger *slog.Logger
	failed map[string]bool
	// onEvent is called for each event, onError for each error.
	onEvent, onError func()
}

// newWatcher opens a watcher, which run or close must close.
func newWatcher(logger *slog.Logger) *watcher {
	w := &watcher{changes: make(chan struct{}, 1), logger: logger, failed: map[string]bool{}, onEvent: func() {}, onError: func() {}}
	var err error
	if w.notify, err = fsnotify.NewWatcher(); err != nil {
		logger.Warn("cannot watch files", "err", err)
		w.notify = nil
	}
	return w
}

// set makes dirs the watched directories and returns the number of those that the
// system watches. It may be called while run runs.
func (w *watcher) set(dirs []string) int {
	if w.notify == nil {
		return 0
	}
	for _, old := range w.notify.WatchList() {
		if !slices.Contains(dirs, old) {
			_ = w.notify.Remove(old)
		}
	}
	for _, dir := range dirs {
		err := w.notify.Add(dir)
		if err != nil && !w.failed[dir] {
			w.onError()
			w.logger.Warn("cannot watch directory", "dir", dir, "err", err)
		}
		w.failed[dir] = err != nil
	}
	return len(w.notify.WatchList())
}

// close closes a watcher that does not run.
func (w *watcher) close() {
	if w.notify != nil {
		_ = w.notify.Close()
	}
}

// run reports until ctx is cancelled, and closes the watcher.
func (w *watcher) run(ctx context.Context) {
	if w.notify == nil {
		return
	}
	defer w.close()
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.notify.Events:
			w.onEvent()
			if due == nil {
				due = time.After(settle)
			}
		case err := <-w.notify.Errors:
			w.onError()
			w.logger.Warn("watching files failed", "err", err)
		case <-due:
			due = nil
			select {
			case w.changes <- struct{}{}:
			default:
			}
		}
	}
}
