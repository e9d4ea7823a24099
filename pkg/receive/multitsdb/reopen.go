package multitsdb

import (
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/hindsight-io/hindsight/pkg/receive/multitsdb/lifecycle"
	"github.com/hindsight-io/hindsight/pkg/receive/remotewrite"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// A tenant whose log failed is opened again once a file of this size can be written next
// to its logs, which is tried at most once a pause.
const (
	probeSize  = 4 << 20
	probePause = time.Second
	probeName  = "write-probe"
)

// probe finds out whether a disk takes writes again.
type probe struct {
	mu    sync.Mutex
	after time.Time
	err   error
}

var errProbed = errors.New("another write is finding out whether the disk takes writes again")

// try writes a file into dir and removes it. Between attempts it returns the error of the last one.
func (p *probe) try(fsys vfs.FS, dir string) error {
	if !p.mu.TryLock() {
		return errProbed
	}
	defer p.mu.Unlock()
	if time.Now().Before(p.after) {
		return p.err
	}
	p.err = writeProbe(fsys, filepath.Join(dir, probeName))
	p.after = time.Now().Add(probePause)
	return p.err
}

func writeProbe(fsys vfs.FS, name string) (err error) {
	defer func() { err = errors.Join(err, fsys.RemoveAll(name)) }()
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, probeSize))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// reopen opens a tenant again whose log failed, if the disk takes writes. Other writes of the
// tenant wait meanwhile; queries are refused until those under way have ended, and then wait,
// too. Before, the tenant answers queries and refuses writes.
func (d *DB) reopen(t *tenantDB) error {
	err := t.probe.try(t.cfg.FS, t.dir)
	if err == nil {
		_, err = d.handle(t.id, lifecycle.Event{Kind: lifecycle.LogFailed, Epoch: t.epoch})
	}
	if err != nil {
		return remotewrite.Errorf(remotewrite.Unavailable, "open tenant %s again after its write-ahead log could not be written: %w", t.id, err)
	}
	return nil
}
