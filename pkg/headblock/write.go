package headblock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// Defaults of Config.
const (
	defaultBlockRange = 2 * time.Hour
	defaultMemory     = 256 << 20
)

// windowsAtOnce bounds the blocks that are written at the same time, each of which has
// buffers of 16 MiB. A head without out-of-order samples has no more.
const windowsAtOnce = 4

// Config says what Write reads and where it writes.
type Config struct {
	Source Source
	// Dir is the directory for the blocks; it is made if it is missing. No other
	// call may use it at the same time.
	Dir string
	// MinTime in milliseconds: samples of the ordinary log that are older are in
	// blocks already. It does not apply to out-of-order samples.
	MinTime int64
	// Covered has further times whose samples of the ordinary log are in blocks;
	// both ends are inclusive.
	Covered []tombstones.Interval
	// ExternalLabels are written to meta.json.
	ExternalLabels labels.Labels
	// Origin is the component that meta.json names; empty means SourceSidecarRecover.
	Origin block.Source
	// BlockRange is the length of the windows at whose boundaries samples are cut
	// into blocks; 0 means two hours.
	BlockRange time.Duration
	// Memory bounds the memory in bytes of labels and samples; 0 means 256 MiB.
	// The labels of all series must fit; of the samples as many are held as fit,
	// and the logs are read again for the others. The buffers of up to four open
	// blocks, 16 MiB each, come on top.
	Memory int64
	// MemoryFlag is the flag that sets Memory, for the error.
	MemoryFlag string
	// Progress is called after each pass over the logs; nil means not at all.
	Progress func(Progress)
	// Logger is that of the decoder; nil discards.
	Logger *slog.Logger
}

// Progress says how far Write is. The passes that are left are not known exactly.
type Progress struct {
	// Passes over the logs so far, and the bytes that each reads.
	Passes    int
	PassBytes int64
	// Done of Total: series multiplied by windows.
	Done, Total int64
}

// Report is the result of Write.
type Report struct {
	// Blocks are ordered by time; Dirs are their directories.
	Blocks []*block.Meta
	Dirs   []string
	// Loss is what could not be read. UnknownSamples have a reference whose series is
	// in no log.
	Loss           Loss
	UnknownSamples int64
	Passes         int
}

// Write writes the head as blocks and returns them. Blocks exist complete or not at
// all; blocks that were complete before an error stay. A head without samples gives no
// block. The same head gives the same blocks, with the same names, whatever the memory.
func Write(ctx context.Context, cfg Config) (*Report, error) {
	cfg.setDefaults()
	if err := os.MkdirAll(cfg.Dir, 0o777); err != nil {
		return nil, fmt.Errorf("make directory for blocks: %w", err)
	}
	dec := newDecoder(cfg.Logger)
	t, err := readTable(ctx, &cfg, dec)
	if err != nil {
		return nil, err
	}
	p := &passes{cfg: &cfg, dec: dec, table: t}
	p.report = Report{Loss: t.loss, UnknownSamples: t.unknown}
	p.progress.PassBytes, p.progress.Total = cfg.Source.Size(), int64(len(t.labels))*int64(len(t.windows))
	p.passDone(0)
	for from := 0; from < len(t.windows); from += windowsAtOnce {
		if err := p.write(ctx, t.windows[from:min(from+windowsAtOnce, len(t.windows))]); err != nil {
			return nil, fmt.Errorf("write blocks of the head: %w", err)
		}
	}
	p.report.Passes = p.progress.Passes
	return &p.report, nil
}

func (c *Config) setDefaults() {
	if c.BlockRange == 0 {
		c.BlockRange = defaultBlockRange
	}
	if c.Origin == "" {
		c.Origin = block.SourceSidecarRecover
	}
	if c.Memory == 0 {
		c.Memory = defaultMemory
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// window returns the start of the window of a time.
func (c *Config) window(t int64) int64 {
	r := c.BlockRange.Milliseconds()
	w := t - t%r
	if t%r < 0 {
		w -= r
	}
	return w
}

// wanted reports whether no block has the samples of a time that came in order.
func (c *Config) wanted(t int64) bool {
	if t < c.MinTime {
		return false
	}
	for _, iv := range c.Covered {
		if iv.InBounds(t) {
			return false
		}
	}
	return true
}

// passes writes the blocks of a head.
type passes struct {
	cfg      *Config
	dec      *decoder
	table    *table
	report   Report
	progress Progress
	size     int // the number of series that the last pass held
}

func (p *passes) passDone(done int64) {
	p.progress.Passes++
	p.progress.Done += done
	if p.cfg.Progress != nil {
		p.cfg.Progress(p.progress)
	}
}

// write writes the blocks of some windows, by as many passes over the logs as the
// memory makes necessary.
func (p *passes) write(ctx context.Context, windows []int64) (err error) {
	writers := make([]*blockWriter, len(windows))
	defer func() {
		for _, w := range writers {
			if w != nil {
				err = errors.Join(err, w.abort())
			}
		}
	}()
	all := len(p.table.labels)
	for lo := 0; lo < all; {
		f := newFill(p.cfg, p.table, windows, lo, p.guess(lo, len(windows)))
		if err := f.read(ctx, p.dec); err != nil {
			return err
		}
		if err := p.flush(ctx, f, windows, writers); err != nil {
			return err
		}
		p.size, lo = f.hi-lo, f.hi
		p.passDone(int64(p.size) * int64(len(windows)))
	}
	for i, w := range writers {
		if w == nil {
			continue
		}
		writers[i] = nil
		m, dir, err := w.finish(p.cfg)
		if err != nil {
			return err
		}
		p.report.Blocks, p.report.Dirs = append(p.report.Blocks, m), append(p.report.Dirs, dir)
	}
	return nil
}

// guess returns the end of the series to read from lo on: all at first, and later
// a tenth more than fitted the last time. A fill that does not fit drops series itself.
func (p *passes) guess(lo, windows int) int {
	hi := len(p.table.labels)
	if p.size > 0 {
		hi = min(hi, lo+p.size+p.size/10+1)
	}
	// The slots of the columns take at most a quarter of the memory.
	slots := max(1, p.cfg.samplesMemory(p.table)/4/int64(8*windows+16))
	return int(min(int64(hi), int64(lo)+slots))
}

// samplesMemory is the memory that the labels leave to samples, at least a quarter.
func (c *Config) samplesMemory(t *table) int64 { return max(c.Memory-t.bytes, c.Memory/4) }

// flush appends the series of a pass to the blocks.
func (p *passes) flush(ctx context.Context, f *fill, windows []int64, writers []*blockWriter) error {
	for rank := f.lo; rank < f.hi; rank++ {
		if rank%ctxRecords == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		for i := range windows {
			c := f.take(rank, i)
			if c == nil {
				continue
			}
			chks, err := c.finish(p.table.stones[int32(rank)])
			if err != nil {
				return fmt.Errorf("series %s: %w", p.table.labels[rank], err)
			}
			if len(chks) == 0 {
				continue
			}
			if writers[i] == nil {
				if writers[i], err = newBlockWriter(ctx, p.cfg, windows[i], p.table.symbols); err != nil {
					return err
				}
			}
			if err := writers[i].add(p.table.labels[rank], chks); err != nil {
				return err
			}
		}
	}
	return nil
}
