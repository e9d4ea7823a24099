package blocks

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/hindsight-io/hindsight/pkg/aggr"
)

// Block is a block that the owner of the directory serves. Times are milliseconds;
// MaxTime is exclusive, as in meta.json.
type Block struct {
	ID               ulid.ULID
	MinTime, MaxTime int64
	// Path is the directory of the block; empty if it has its usual name in the
	// data directory.
	Path string
	// Parents are the blocks that it was compacted from.
	Parents []ulid.ULID
}

// Failure is a block that cannot be read.
type Failure struct {
	ID  ulid.ULID
	Err error
}

// Gap is a range of time, in inclusive milliseconds, in which a view may lack samples,
// and the reason as text.
type Gap struct {
	MinTime, MaxTime int64
	Text             string
}

// Dir keeps the blocks of one data directory open. Open files outlive their
// deletion, so a reader can always read on.
//
// All methods may be called concurrently.
type Dir struct {
	path   string
	logger *slog.Logger

	// updating serialises Update and guards broken, the blocks that the last one
	// could not open.
	updating sync.Mutex
	broken   []ulid.ULID

	mu      sync.Mutex
	current *View
}

// NewDir returns the blocks of a directory; none are open before Update.
func NewDir(path string, logger *slog.Logger) *Dir {
	return &Dir{path: path, logger: logger}
}

// View is a consistent set of open blocks: it has all samples before End and does
// not change until Release, which must be called once.
type View struct {
	dir    *Dir
	refs   int
	blocks []*open
	end    int64
	gaps   []Gap
}

// open is a block with its files. It is closed with the last view of it.
type open struct {
	*tsdb.Block
	index      *indexFile
	tombstones fileState
	views      int
}

// Close closes the block and its files.
func (o *open) Close() error {
	err := o.Block.Close()
	if o.index != nil {
		err = errors.Join(err, o.index.file.Close())
	}
	return err
}

// Update opens the given blocks, which together hold every sample before end, and
// closes the others once the last reader has released them. A block that cannot be
// opened is returned; its range is a gap of the view, and the end of the view moves
// before it. gaps are further ones.
func (d *Dir) Update(want []Block, end int64, gaps ...Gap) []Failure {
	d.updating.Lock()
	defer d.updating.Unlock()
	d.mu.Lock()
	have := map[ulid.ULID]*open{}
	if d.current != nil {
		for _, b := range d.current.blocks {
			have[b.Meta().ULID] = b
		}
	}
	d.mu.Unlock()

	next := &View{dir: d, refs: 1, end: end, gaps: gaps}
	var broken []ulid.ULID
	var failed []Failure
	for _, w := range want {
		b, err := d.open(w, have[w.ID])
		if err != nil {
			broken = append(broken, w.ID)
			failed = append(failed, Failure{ID: w.ID, Err: err})
			next.gaps = append(next.gaps, Gap{w.MinTime, w.MaxTime - 1, fmt.Sprintf("block %s cannot be read: %v", w.ID, err)})
			next.end = min(next.end, w.MinTime)
			continue
		}
		next.blocks = append(next.blocks, b)
	}
	if len(broken) > 0 && !slices.Equal(broken, d.broken) {
		d.logger.Warn("cannot open blocks", "blocks", len(broken), "block", broken[0], "err", failed[0].Err)
	}
	d.broken = broken
	slices.SortFunc(next.blocks, func(a, b *open) int {
		return int(min(max(a.Meta().MinTime-b.Meta().MinTime, -1), 1))
	})
	d.swap(next)
	return failed
}

// Close closes all blocks, those in use when their readers release them.
func (d *Dir) Close() { d.Update(nil, math.MinInt64) }

// open returns the block, opened again if its tombstones changed.
func (d *Dir) open(w Block, have *open) (*open, error) {
	path := w.Path
	if path == "" {
		path = filepath.Join(d.path, w.ID.String())
	}
	state, err := stateOf(filepath.Join(path, "tombstones"))
	if err != nil {
		return nil, err
	}
	if have != nil && have.tombstones == state {
		return have, nil
	}
	b, err := tsdb.OpenBlock(d.logger, path, aggr.NewPool(), nil)
	if err != nil {
		return nil, fmt.Errorf("open block: %w", err)
	}
	x, err := openIndex(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open block: %w", err), b.Close())
	}
	return &open{Block: b, index: x, tombstones: state}, nil
}

func (d *Dir) swap(next *View) {
	d.mu.Lock()
	for _, b := range next.blocks {
		b.views++
	}
	old := d.current
	d.current = next
	d.mu.Unlock()
	if old != nil {
		old.Release()
	}
}

// Acquire returns the newest view, nil when there is none or when it has no sample at
// any time. The caller releases it.
func (d *Dir) Acquire() *View {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.current == nil || d.current.end == math.MinInt64 {
		return nil
	}
	d.current.refs++
	return d.current
}

// Release ends the use of the view. Queriers of the view hold it until they are
// closed.
func (v *View) Release() {
	v.dir.mu.Lock()
	v.refs--
	var unused []*open
	if v.refs == 0 {
		for _, b := range v.blocks {
			if b.views--; b.views == 0 {
				unused = append(unused, b)
			}
		}
	}
	v.dir.mu.Unlock()
	for _, b := range unused {
		if err := b.Close(); err != nil {
			v.dir.logger.Warn("cannot close block", "block", b.Meta().ULID, "err", err)
		}
	}
}

// End is the time before which the view has every sample, in milliseconds.
func (v *View) End() int64 { return v.end }

// Gaps are the ranges within [mint, maxt] in which the view may lack samples.
func (v *View) Gaps(mint, maxt int64) (out []Gap) {
	for _, g := range v.gaps {
		if g.MinTime <= maxt && g.MaxTime >= mint {
			out = append(out, g)
		}
	}
	return out
}

// StartTime is the time of the oldest sample, in milliseconds.
func (v *View) StartTime() (int64, error) {
	if len(v.blocks) == 0 {
		return math.MaxInt64, nil
	}
	return v.blocks[0].Meta().MinTime, nil
}

// fileState identifies a version of a file.
type fileState struct {
	size    int64
	changed time.Time
}

func stateOf(name string) (fileState, error) {
	st, err := os.Stat(name)
	if errors.Is(err, os.ErrNotExist) {
		return fileState{}, nil
	}
	if err != nil {
		return fileState{}, err
	}
	return fileState{size: st.Size(), changed: st.ModTime()}, nil
}
