package multitsdb

import (
	"context"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/prometheus/tsdb"
)

// replay follows the tenants that are opened at the start, most of whose time
// goes into their write-ahead logs. Its methods may be called concurrently.
type replay struct {
	mu      sync.Mutex
	tenants map[string]*replaying
}

// replaying is one tenant that waits, is being opened, or is open.
type replaying struct {
	bytes int64
	stats *tsdb.DBStats // nil while it waits
	done  bool
}

// logDirs returns the directories of a tenant that are read when it is opened, the
// write-ahead log first.
func logDirs(dir string) []string {
	return []string{filepath.Join(dir, "wal"), filepath.Join(dir, "wbl"), filepath.Join(dir, "chunks_head")}
}

// expect adds a tenant whose directory this is.
func (r *replay) expect(id, dir string) {
	size := int64(1) // empty ones count too
	for _, d := range logDirs(dir) {
		_ = filepath.WalkDir(d, func(_ string, e fs.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				if info, err := e.Info(); err == nil {
					size += info.Size()
				}
			}
			return nil // the opening reports the error
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tenants == nil {
		r.tenants = map[string]*replaying{}
	}
	r.tenants[id] = &replaying{bytes: size}
}

// begin returns where the TSDB of a tenant notes how far it is.
func (r *replay) begin(id string) *tsdb.DBStats {
	stats := tsdb.NewDBStats()
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.tenants[id]; t != nil {
		t.stats = stats
	}
	return stats
}

func (r *replay) end(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.tenants[id]; t != nil {
		t.done = true
	}
}

// progress is how much of the logs has been read, from 0 to 1.
func (r *replay) progress() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var read, all float64
	for _, t := range r.tenants {
		all += float64(t.bytes)
		read += float64(t.bytes) * t.part()
	}
	if all == 0 {
		return 0
	}
	return read / all
}

// part is the share of a tenant's segments that has been read.
func (t *replaying) part() float64 {
	switch {
	case t.done:
		return 1
	case t.stats == nil:
		return 0
	}
	s := t.stats.Head.WALReplayStatus
	s.RLock()
	defer s.RUnlock()
	if s.Max <= s.Min {
		return 0
	}
	return min(1, max(0, float64(s.Current-s.Min)/float64(s.Max-s.Min+1)))
}

// replayLogInterval is how often the progress of a long replay is logged.
const replayLogInterval = 10 * time.Second

// logProgress logs the progress until ctx ends.
func (r *replay) logProgress(ctx context.Context, logger *slog.Logger) {
	began := time.Now()
	ticker := time.NewTicker(replayLogInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		r.mu.Lock()
		open, all := 0, len(r.tenants)
		for _, t := range r.tenants {
			if t.done {
				open++
			}
		}
		r.mu.Unlock()
		done := r.progress()
		left := "unknown"
		if done > 0 {
			left = (time.Duration(float64(time.Since(began)) * (1 - done) / done)).Round(time.Second).String()
		}
		logger.Info("replaying write-ahead logs", "percent", int(100*done), "tenants_open", open, "tenants", all, "left", left)
	}
}
