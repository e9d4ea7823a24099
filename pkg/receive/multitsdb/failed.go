package multitsdb

import (
	"errors"
	"fmt"
	"math"
	"syscall"
	"time"

	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/storeapi/tsdbstore"
)

// A tenant that cannot be opened costs only itself: its writes are refused until
// it can be, its queries say what is missing, and all other tenants go on. It is
// tried again with its writes and queries, and by maintenance, but not more often
// than its pauses let it.
type failure struct {
	err   error
	times int
	until time.Time
}

// The pause after a tenant could not be opened, which doubles with each time.
const (
	firstPause = time.Second
	mostPause  = time.Minute
)

// fail notes that a tenant could not be opened. The caller holds mu.
func (d *DB) fail(id string, err error, now time.Time) {
	f := d.failures[id]
	if f == nil {
		f = &failure{}
		d.failures[id] = f
	}
	f.err, f.until = err, now.Add(min(mostPause, firstPause<<min(f.times, 10)))
	f.times++
}

// mayOpen is the error of a tenant whose pause is not over. The caller holds mu
// for reading.
func (d *DB) mayOpen(id string, now time.Time) error {
	f := d.failures[id]
	if f == nil || !now.Before(f.until) {
		return nil
	}
	return remotewrite.Errorf(remotewrite.Unavailable, "%w (tried again in %s)", f.err, f.until.Sub(now).Round(time.Second))
}

// unopened notes a tenant that could not be opened at the start. It is asleep,
// and as nobody knows of what time it has samples, it may have some of all.
func (d *DB) unopened(id string, err error) {
	d.logger.Error("tenant cannot be opened, all others go on; it is tried again", "tenant", id, "err", err)
	s := &sleeper{id: id, unknown: true, mint: math.MinInt64, maxt: math.MaxInt64, store: d.storeOf(id)}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail(id, err, time.Now())
	d.asleep[id] = s
}

func (d *DB) storeOf(id string) *tsdbstore.Store {
	return tsdbstore.New(guarded{d, id}, tsdbstore.Config{Component: "receive", External: d.externalOf(id)})
}

// forgetFailures drops tenants that never were here and could not be made, when
// nobody has wanted them for a while: their names may come from anybody.
func (d *DB) forgetFailures(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, f := range d.failures {
		if d.asleep[id] == nil && now.Sub(f.until) > mostPause {
			delete(d.failures, id)
		}
	}
}

// failed counts the tenants that cannot be opened.
func (d *DB) failed() float64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return float64(len(d.failures))
}

// failureOf says why a tenant cannot be opened, "" when nothing is known against
// it.
func (d *DB) failureOf(id string) string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if f := d.failures[id]; f != nil {
		return f.err.Error()
	}
	return ""
}

// allFailed is the error of a start at which no tenant could be opened: then it is
// not the tenants that have a fault.
func allFailed(errs []error, tenants int) error {
	if len(errs) == 0 || len(errs) < tenants {
		return nil
	}
	return fmt.Errorf("none of %d tenants can be opened: %w", tenants, errs[0])
}

// scarce says that an error is not about what is in a file, but about the process
// or the machine: another time, the same file may be well.
func scarce(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EAGAIN, syscall.EINTR, syscall.EACCES, syscall.EPERM, syscall.EIO, syscall.ESTALE, syscall.ENOSPC, syscall.EROFS:
		return true
	}
	return false
}
