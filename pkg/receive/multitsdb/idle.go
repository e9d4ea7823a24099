package multitsdb

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/storage"

	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb/lifecycle"
	"github.com/hindsight-io/hindsight/pkg/storeapi"
	"github.com/hindsight-io/hindsight/pkg/storeapi/tsdbstore"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// idleTenant is what is known of a tenant that has samples on the disk and is not
// open. A TSDB takes more than half a MiB even without a series; this does not.
type idleTenant struct {
	store *tsdbstore.Store
	// shipper is the same while the process lasts, so that no two of them work on
	// one directory; nil when the tenant has not been opened yet.
	shipper    Shipper
	blocks     []blockAge
	mint, maxt int64 // of the samples, inclusive; mint > maxt without any
	lastWrite  int64
}

// toIdle returns what is known of the tenant once its TSDB is closed.
func (t *tenantDB) toIdle() *idleTenant {
	s := &idleTenant{store: t.store, shipper: t.shipper, blocks: t.ages(t.db.Blocks()), mint: 0, maxt: -1, lastWrite: t.lastWrite.Load()}
	for i, b := range t.db.Blocks() {
		m := b.Meta()
		if i == 0 {
			s.mint, s.maxt = m.MinTime, m.MaxTime-1
		}
		s.mint, s.maxt = min(s.mint, m.MinTime), max(s.maxt, m.MaxTime-1)
	}
	return s
}

// unopened is a tenant that could not be opened at the start. As it is unknown
// which samples it has, it may have some of any time.
func (d *DB) unopened(id string) *idleTenant {
	return &idleTenant{mint: math.MinInt64, maxt: math.MaxInt64, store: d.storeOf(id)}
}

// unused says that the tenant's TSDB need not be in memory: it has not been
// written to or read from for the idle timeout, and has nothing but blocks that
// are where they have to be.
func (t *tenantDB) unused(now time.Time) bool {
	if t.db.Head().NumSeries() > 0 || now.UnixMilli()-t.lastUse.Load() < t.cfg.IdleTimeout.Milliseconds() {
		return false
	}
	return !slices.ContainsFunc(t.ages(t.db.Blocks()), func(b blockAge) bool { return !b.uploaded })
}

// closeIdle closes the TSDB of a tenant that is unused.
func (d *DB) closeIdle(t *tenantDB, now time.Time) error {
	if !t.unused(now) {
		return nil
	}
	_, err := d.handle(t.id, lifecycle.Event{Kind: lifecycle.IdleCheckPassed, Epoch: t.epoch, Now: now})
	return err
}

// closeFor closes the TSDB for a purpose and returns the event that this ends in.
// Whether the tenant is still unused is looked at again, at a moment without a
// write. A tenant that is being read from, or compacted, is closed only for a shutdown or
// for reopening, during which no query waits: a query may need it once more before it lets
// go of it, and a compaction may wait for that query.
func (t *tenantDB) closeFor(p lifecycle.Purpose, now time.Time) *event {
	var (
		idle   *idleTenant
		closed bool
		err    error
	)
	if p == lifecycle.ForShutdown || p == lifecycle.ForReopening {
		closed, err = t.closeForShutdown(func() {
			if idle = t.toIdle(); p == lifecycle.ForReopening {
				idle.mint, idle.maxt = math.MinInt64, math.MaxInt64 // the log has more than the blocks
			}
		})
	} else {
		closed, err = t.closeIf(func() bool {
			if t.reading > 0 || p == lifecycle.ForIdle && !t.unused(now) || p == lifecycle.ForRemoval && !t.prunable(now) {
				return false
			}
			idle = t.toIdle()
			return true
		})
	}
	if !closed {
		return &event{Event: lifecycle.Event{Kind: lifecycle.Busy}}
	}
	if p == lifecycle.ForIdle && err == nil {
		if err = removeLogs(t.cfg.FS, t.dir); err != nil {
			err = fmt.Errorf("idle tenant %s: %w", t.id, err)
		}
	}
	e := &event{Event: lifecycle.Event{Kind: lifecycle.Closed, Range: lifecycle.Range{Min: idle.mint, Max: idle.maxt}}, idle: idle}
	if err != nil {
		e.Kind, e.Err = lifecycle.CloseFailed, err
	}
	return e
}

// removedSuffix ends the names of logs that are being deleted.
const removedSuffix = ".removed"

// removeLogs deletes the logs that a TSDB leaves that was closed without a series
// in its head: everything in them is in blocks. Replaying them would bring series
// back that have no samples, and out-of-order samples a second time.
//
// A kill at any moment leaves logs that can be replayed: each directory is renamed
// before it is deleted, as a log with a segment missing cannot be opened, and the
// write-ahead log goes last, as the others have only numbers of series that it
// defines, and that a new one would give to other series.
func removeLogs(fsys vfs.FS, dir string) error {
	snapshots, err := filepath.Glob(filepath.Join(dir, "chunk_snapshot.*"))
	if err != nil {
		return fmt.Errorf("find the snapshots in %s: %w", dir, err)
	}
	for _, s := range snapshots {
		if err := fsys.RemoveAll(s); err != nil {
			return fmt.Errorf("delete a snapshot: %w", err)
		}
	}
	if err := finishRemovingLogs(fsys, dir); err != nil {
		return err
	}
	logs := logDirs(dir)
	slices.Reverse(logs)
	for _, log := range logs {
		err := fsys.Rename(log, log+removedSuffix)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = fsys.SyncDir(dir)
		}
		if err == nil {
			err = fsys.RemoveAll(log + removedSuffix)
		}
		if err != nil {
			return fmt.Errorf("delete a log: %w", err)
		}
	}
	return nil
}

// finishRemovingLogs deletes logs whose deletion a crash ended.
func finishRemovingLogs(fsys vfs.FS, dir string) error {
	for _, log := range logDirs(dir) {
		if err := fsys.RemoveAll(log + removedSuffix); err != nil {
			return fmt.Errorf("delete a log: %w", err)
		}
	}
	return nil
}

// maintainIdle removes a tenant that is not open and past its retention, and opens
// one that has blocks to delete or could not be opened before.
func (d *DB) maintainIdle(v view, now time.Time) error {
	e := lifecycle.Event{Kind: lifecycle.Maintenance, Epoch: v.life.Epoch, Now: now}
	if v.life.Extent == lifecycle.Within {
		keep := d.cfg.retention(v.id)
		switch {
		case expired(v.idle.blocks, keep, v.idle.lastWrite, now.UnixMilli()):
			e.Kind = lifecycle.Expired
		case v.life.State == lifecycle.Idle && len(deletable(v.idle.blocks, keep)) == 0:
			return nil
		}
	}
	_, err := d.handle(v.id, e)
	return err
}

// removedPrefix begins the names of directories of tenants that are being
// removed. No tenant's name begins with a dot.
const removedPrefix = ".removed-"

// removeDirectory deletes what there is of a tenant whose TSDB is closed. It is
// renamed first, so that a crash half-way leaves no tenant with damaged blocks.
func (d *DB) removeDirectory(id string) *event {
	away := filepath.Join(d.cfg.Dir, removedPrefix+id)
	err := d.cfg.FS.RemoveAll(away)
	if err == nil {
		err = d.cfg.FS.Rename(filepath.Join(d.cfg.Dir, id), away)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = d.cfg.FS.RemoveAll(away)
	}
	e := &event{Event: lifecycle.Event{Kind: lifecycle.Removed}}
	if err != nil {
		e.Kind, e.Err = lifecycle.RemoveFailed, fmt.Errorf("delete the directory of the tenant %s: %w", id, err)
	}
	return e
}

// finishRemovals deletes the directories of removals that a crash ended.
func (d *DB) finishRemovals(entries []fs.DirEntry) {
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), removedPrefix) {
			continue
		}
		dir := filepath.Join(d.cfg.Dir, e.Name())
		if err := d.cfg.FS.RemoveAll(dir); err != nil {
			d.logger.Warn("directory of a removed tenant cannot be deleted", "dir", dir, "err", err)
		}
	}
}

// onDemand is the TSDB of a tenant for its store: it is opened by a query for a
// time of which it has samples, and its readers are counted.
type onDemand struct {
	d  *DB
	id string
}

// StartTime implements tsdbstore.DB.
func (o onDemand) StartTime() (int64, error) {
	switch s := o.d.look(o.id); {
	case s.tenant != nil:
		return s.tenant.startTime()
	case s.idle != nil:
		return s.idle.mint, nil
	}
	return 0, errClosed
}

// startTime is the time of the oldest sample, the out-of-order samples of the head
// included.
func (t *tenantDB) startTime() (int64, error) {
	start, err := t.db.StartTime()
	return min(start, t.db.Head().MinOOOTime()), err
}

// ChunkQuerier implements tsdbstore.DB.
func (o onDemand) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	for range maxReopens {
		t := o.d.opened(o.id)
		if t == nil {
			s, err := o.d.handle(o.id, lifecycle.Event{Kind: lifecycle.Query, Range: lifecycle.Range{Min: mint, Max: maxt}})
			if err != nil {
				return nil, err
			}
			if t = s.tenant; t == nil {
				return storage.NoopChunkedQuerier(), nil
			}
		}
		if q, ok, err := t.chunkQuerier(mint, maxt); ok || err != nil {
			return q, err
		}
	}
	return nil, errClosed
}

// idleStore is the store of an idle tenant. It announces when its samples end, so
// that it is not asked for newer ones.
type idleStore struct {
	*tsdbstore.Store
	maxt int64
}

// Info implements storeapi.Store.
func (s idleStore) Info() storeapi.Info {
	i := s.Store.Info()
	i.MaxTime = s.maxt
	for j := range i.TSDBs {
		i.TSDBs[j].MaxTime = s.maxt
	}
	return i
}

var _ storeapi.Store = idleStore{}
