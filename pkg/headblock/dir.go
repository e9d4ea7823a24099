package headblock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// openTries bounds how often the files of a log are listed again because Prometheus
// deleted one of them between the listing and the opening.
const openTries = 10

// Dir is the head in the data directory of a Prometheus, running or not. It holds
// the files of the logs open, so that Prometheus may delete them meanwhile, and writes
// and locks nothing. Its methods may be called concurrently.
type Dir struct {
	logs    [2][]segment
	files   []*os.File
	chunks  []*os.File
	size    int64
	minTime int64
	loss    Loss
}

// OpenDir opens the head in a data directory. A directory without logs is an empty
// head. The caller closes the result.
func OpenDir(dir string) (*Dir, error) {
	d := &Dir{minTime: math.MinInt64}
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("open data directory of Prometheus: %w", err)
	}
	for _, l := range []Log{WALLog, WBLLog} {
		if err := d.open(l, filepath.Join(dir, l.String())); err != nil {
			return nil, errors.Join(fmt.Errorf("open %s of %s: %w", l, dir, err), d.Close())
		}
	}
	if err := d.openChunks(filepath.Join(dir, "chunks_head")); err != nil {
		return nil, errors.Join(fmt.Errorf("open chunks of the head of %s: %w", dir, err), d.Close())
	}
	if err := d.findMinTime(dir); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// open opens the files of one log. It lists them again when one is gone: Prometheus
// replaces old segments by a checkpoint.
func (d *Dir) open(l Log, dir string) error {
	for try := 1; ; try++ {
		segs, files, loss, err := openLog(dir)
		if err == nil {
			d.logs[l], d.files = segs, append(d.files, files...)
			d.loss.add(loss)
			for _, s := range segs {
				d.size += s.size
			}
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) || try == openTries {
			return err
		}
	}
}

// openLog opens the last checkpoint and the segments after it.
func openLog(dir string) (segs []segment, files []*os.File, loss Loss, err error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, loss, nil
	}
	checkpoint, last, err := wlog.LastCheckpoint(dir)
	if errors.Is(err, record.ErrNotFound) {
		checkpoint, last = "", -1
	} else if err != nil {
		return nil, nil, loss, err
	}
	defer func() {
		if err != nil {
			for _, f := range files {
				err = errors.Join(err, f.Close())
			}
		}
	}()
	if checkpoint != "" {
		if segs, files, err = openSegments(checkpoint, -1, &loss, segs, files); err != nil {
			return nil, files, loss, err
		}
	}
	if segs, files, err = openSegments(dir, last, &loss, segs, files); err != nil {
		return nil, files, loss, err
	}
	if n := len(segs); n > 0 {
		segs[n-1].last = true
	}
	return segs, files, loss, nil
}

// openSegments opens the segments of a directory whose numbers are above after.
func openSegments(dir string, after int, loss *Loss, segs []segment, files []*os.File) ([]segment, []*os.File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return segs, files, err
	}
	var numbers []int
	names := map[int]string{}
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n > after && e.Type().IsRegular() {
			numbers, names[n] = append(numbers, n), e.Name()
		}
	}
	slices.Sort(numbers)
	for i, n := range numbers {
		if i > 0 && n != numbers[i-1]+1 {
			loss.note(0, "%s: segment %d is missing", dir, numbers[i-1]+1)
		}
		f, err := os.Open(filepath.Join(dir, names[n]))
		if err != nil {
			return segs, files, err
		}
		files = append(files, f)
		info, err := f.Stat()
		if err != nil {
			return segs, files, err
		}
		segs = append(segs, segment{file: f, name: f.Name(), size: info.Size()})
	}
	return segs, files, nil
}

// findMinTime sets the time before which Prometheus takes no sample from the log. It
// is the highest end of the blocks of samples that came in order, or the time that the
// checkpoint names, as in tsdb.Open.
func (d *Dir) findMinTime(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list blocks of Prometheus: %w", err)
	}
	for _, e := range entries {
		if _, ok := block.ParseID(e.Name()); !ok {
			continue
		}
		m, err := block.ReadMetaDir(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // Prometheus ignores or deletes it
		}
		if c := m.Compaction; !c.FromOutOfOrder() && !c.FromStaleSeries() && !c.FromSelectedSeries() {
			d.minTime = max(d.minTime, m.MaxTime)
		}
	}
	stored, ok, err := wlog.ReadMinValidTime(filepath.Join(dir, WALLog.String()))
	if err == nil && ok {
		d.minTime = max(d.minTime, stored)
	}
	return nil
}

// MinTime is the time before which blocks of the directory have all samples that came
// in order.
func (d *Dir) MinTime() int64 { return d.minTime }

// Size implements Source.
func (d *Dir) Size() int64 { return d.size }

// Records implements Source. The out-of-order samples come last.
func (d *Dir) Records(ctx context.Context, f func(l Log, rec []byte) error) (Loss, error) {
	loss := d.loss
	for _, l := range []Log{WALLog, WBLLog} {
		for _, s := range d.logs[l] {
			lost, err := s.records(ctx, func(rec []byte) error { return f(l, rec) })
			loss.add(lost)
			if err != nil {
				return loss, err
			}
		}
	}
	return loss, nil
}

// Close closes the files. No call may follow.
func (d *Dir) Close() error {
	var errs []error
	for _, f := range d.files {
		errs = append(errs, f.Close())
	}
	d.files = nil
	return errors.Join(errs...)
}
