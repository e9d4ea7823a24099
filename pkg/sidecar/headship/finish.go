package headship

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"time"
)

// finalTimeout bounds the passes at the end, finalPause is the time between two of
// them. quietPasses is how many must find nothing new. After runningPasses, a Prometheus
// that answers is one that is not stopping.
const (
	finalTimeout  = 15 * time.Second
	finalPause    = 500 * time.Millisecond
	quietPasses   = 6
	runningPasses = 3
)

// finish ships until Prometheus has closed its data directory, which it shows by
// removing its lock file, or until the log does not grow any more, or it is clear that
// Prometheus is not stopping too, or ctx ends. It returns the error of the last pass.
func (s *Shipper) finish(ctx context.Context) error {
	var err error
	pause := time.NewTicker(finalPause)
	defer pause.Stop()
	for passes, quiet := 1, 0; quiet < quietPasses; passes++ {
		closed := !s.locked()
		before := s.shippedPlace()
		if err = s.Sync(ctx); err == nil {
			if closed || passes >= runningPasses && s.deps.Running(ctx) {
				return nil
			}
			quiet++
			if s.shippedPlace() != before {
				quiet = 0
			}
		}
		select {
		case <-ctx.Done():
			return err
		case <-pause.C:
		}
	}
	return err
}

// locked says whether the lock file exists that Prometheus holds while it runs. A
// Prometheus without lock file looks closed: then one pass is all.
func (s *Shipper) locked() bool {
	_, err := s.deps.FS.Stat(filepath.Join(s.cfg.Dir, "lock"))
	return !errors.Is(err, fs.ErrNotExist)
}

// shippedPlace returns the places in both logs.
func (s *Shipper) shippedPlace() [2]place {
	if s.gen == nil {
		return [2]place{}
	}
	return [2]place{s.gen.wal, s.gen.wbl}
}

// unshippedBytes returns the bytes of the logs that are not shipped, for the log.
func (s *Shipper) unshippedBytes() int64 {
	var n int64
	for i, name := range []string{"wal", "wbl"} {
		if l, err := listLog(s.deps.FS, filepath.Join(s.cfg.Dir, name)); err == nil {
			n += l.bytesFrom(s.shippedPlace()[i])
		}
	}
	return n
}
