package outage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hindsight-io/hindsight/pkg/sidecar/blocks"
)

// HeadConverter writes the content of the logs of a data directory as blocks. It does
// not change the data directory.
type HeadConverter interface {
	// Convert writes blocks into the directory out, which is empty. Together they
	// have the samples that Prometheus would have in its head after a start. lost, if
	// not empty, says what of the logs could not be read.
	Convert(ctx context.Context, dataDir, out string) (lost string, err error)
}

// Config is the configuration of a Reader.
type Config struct {
	// Path is the data directory of Prometheus.
	Path string
	// Temp is the directory for the blocks of the head. It is made when needed; the
	// Reader owns what begins with "head-" in it.
	Temp string
	// Wait bounds how long Acquire waits for the head.
	Wait time.Duration
	// Retry is the pause after a conversion that failed.
	Retry time.Duration
}

// Reader keeps a view of all samples in a data directory.
//
// All methods may be called concurrently.
type Reader struct {
	cfg     Config
	head    HeadConverter
	logger  *slog.Logger
	metrics *Metrics
	dir     *blocks.Dir

	// wanted has a value when a build is to begin, answers when Prometheus answers
	// again. Both hold at most one.
	wanted, answers chan struct{}

	mu sync.Mutex
	// built is the state of the directory that the newest view has, with the time
	// from which on a failed build may be repeated; nil when there is none.
	built *state
	retry time.Time
	// stale says that the directory has changed since the newest view was published, so
	// that the view may lack samples without a gap that names them.
	stale bool
	// running is closed at the end of the build that runs or was asked for; nil
	// if there is none.
	running chan struct{}

	// Only Run uses these: the converted head and its number, which names its
	// directory.
	converted *head
	count     int
}

// head is a converted head.
type head struct {
	log    string
	path   string
	blocks []blocks.Block
	// lost says what of the log could not be read.
	lost string
}

// New returns a Reader, which reads nothing before Run and the first Acquire.
func New(c Config, h HeadConverter, logger *slog.Logger, m *Metrics) *Reader {
	return &Reader{
		cfg: c, head: h, logger: logger, metrics: m, dir: blocks.NewDir(c.Path, logger),
		wanted: make(chan struct{}, 1), answers: make(chan struct{}, 1),
	}
}

// Check returns an error unless the data directory can be listed.
func (r *Reader) Check() error {
	_, err := stateOf(r.cfg.Path)
	return err
}

// Acquire returns a view of all samples in the data directory, whose gaps name what
// it lacks. It waits for a conversion of the head for as long as the configuration
// says. The caller releases the view. Without a view, the error says why.
func (r *Reader) Acquire(ctx context.Context) (*blocks.View, error) {
	now, err := stateOf(r.cfg.Path)
	if err != nil {
		return nil, err
	}
	if err := r.wait(ctx, r.ensure(now)); err != nil {
		return nil, err
	}
	r.mu.Lock()
	stale := r.stale
	r.mu.Unlock()
	if stale {
		return nil, errStillRead
	}
	if view := r.dir.Acquire(); view != nil {
		return view, nil
	}
	return nil, errStillRead
}

var errStillRead = errors.New("the data directory of Prometheus is still being read")

// wait waits for the end of a build, if there is one, for as long as the configuration
// says.
func (r *Reader) wait(ctx context.Context, done <-chan struct{}) error {
	if done == nil {
		return nil
	}
	timer := time.NewTimer(r.cfg.Wait)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ensure asks for a build unless the newest view is one of the state now. It returns
// the end of the build.
func (r *Reader) ensure(now state) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running == nil {
		if r.built != nil && *r.built == now && (r.retry.IsZero() || time.Now().Before(r.retry)) {
			return nil
		}
		r.stale = r.stale || r.built == nil || *r.built != now
		r.running = make(chan struct{})
		r.wanted <- struct{}{} // Run has taken the value of the build before
	}
	return r.running
}

// Answering is called when Prometheus answers: the view is not needed until the next
// outage.
func (r *Reader) Answering() {
	select {
	case r.answers <- struct{}{}:
	default:
	}
}

// Run builds views until ctx is cancelled.
func (r *Reader) Run(ctx context.Context) {
	r.removeHeads("")
	defer r.forget()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.answers:
			r.forget()
		case <-r.wanted:
			r.rebuild(ctx)
		}
	}
}

// rebuild runs the build that ensure has asked for.
func (r *Reader) rebuild(ctx context.Context) {
	built, retry := r.build(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.built, r.retry = built, retry
	close(r.running)
	r.running = nil
}

// forget closes the view and removes the blocks of the head.
func (r *Reader) forget() {
	r.mu.Lock()
	r.built, r.retry = nil, time.Time{}
	r.mu.Unlock()
	r.dir.Close()
	r.converted = nil
	r.removeHeads("")
}

// maxBuilds bounds how often a build is repeated because the log changed meanwhile.
const maxBuilds = 3

// build reads the directory, first without the head if that has to be converted. It
// returns what the view is one of, and when a failed build may be repeated.
//
// The blocks are listed again after the log was read: a block that appears in between
// may hold what the log lost.
func (r *Reader) build(ctx context.Context) (*state, time.Time) {
	for attempt := 1; ; attempt++ {
		before, err := stateOf(r.cfg.Path)
		if err == nil {
			err = r.convert(ctx, before)
		}
		var after state
		if err == nil {
			after, err = stateOf(r.cfg.Path)
		}
		if err == nil && after.log != before.log {
			if attempt < maxBuilds {
				continue
			}
			err = errors.New("the log changes while it is read")
		}
		if ctx.Err() != nil {
			return nil, time.Time{}
		}
		retry := time.Time{}
		if err != nil {
			r.logger.Warn("cannot read head from log", "err", err)
			retry = time.Now().Add(r.cfg.Retry)
		}
		if err := r.publish(before, err); err != nil {
			r.logger.Warn("cannot read blocks", "err", err)
			return nil, time.Time{}
		}
		return &before, retry
	}
}

// convert converts the head unless that was done for this state of the log. Meanwhile
// the view has the blocks, and a gap.
func (r *Reader) convert(ctx context.Context, s state) error {
	if r.converted != nil && r.converted.log == s.log || s.log == "" {
		return nil
	}
	if err := r.publish(s, errConverting); err != nil {
		return err
	}
	r.count++
	h := &head{log: s.log, path: filepath.Join(r.cfg.Temp, fmt.Sprintf("%s%d", headPrefix, r.count))}
	if err := os.MkdirAll(h.path, 0o750); err != nil {
		return fmt.Errorf("make a directory for the blocks of the head: %w; give one that can be written by --tsdb.outage-dir", err)
	}
	start := time.Now()
	lost, err := r.head.Convert(ctx, r.cfg.Path, h.path)
	r.metrics.observe(time.Since(start), err)
	if err != nil {
		return errors.Join(fmt.Errorf("convert the log of Prometheus: %w", err), os.RemoveAll(h.path))
	}
	made, err := blocks.List(h.path)
	if err != nil {
		return err
	}
	h.blocks, h.lost = made.Blocks, lost
	r.logger.Info("head read from log", "blocks", len(h.blocks), "duration", time.Since(start))
	r.converted = h
	return nil
}

var errConverting = errors.New("it is being converted")

// publish makes a view of all blocks and the converted head. missing, if not nil, says
// why that head is not the whole head.
func (r *Reader) publish(s state, missing error) error {
	listing, err := blocks.List(r.cfg.Path)
	if err != nil {
		return err
	}
	for _, f := range listing.Skipped {
		r.logger.Warn("skipping block without readable meta.json", "block", f.ID, "err", f.Err)
	}
	var heads []blocks.Block
	keep := ""
	if r.converted != nil && s.log != "" {
		heads, keep = r.converted.blocks, r.converted.path
		if missing == nil && r.converted.lost != "" {
			missing = errors.New(r.converted.lost)
		}
	}
	var gaps []blocks.Gap
	if missing != nil {
		g := blocks.Gap{MinTime: listing.InOrderEnd, MaxTime: math.MaxInt64, Text: "the write-ahead log cannot be read: " + missing.Error()}
		if errors.Is(missing, errConverting) {
			g.Text = "the write-ahead log is still being read"
		}
		if s.late {
			g.MinTime = math.MinInt64 // out-of-order samples may have any time
		}
		gaps = append(gaps, g)
	}
	failed := r.dir.Update(append(listing.Newest(nil), heads...), math.MaxInt64, gaps...)
	if len(failed) > 0 {
		// A block that cannot be opened may have parents that can.
		r.dir.Update(append(listing.Newest(failed), heads...), math.MaxInt64, append(gaps, gapsOf(listing, failed)...)...)
	}
	r.mu.Lock()
	r.stale = false
	r.mu.Unlock()
	r.removeHeads(keep)
	return nil
}

// gapsOf returns the ranges of the failed blocks that have no parents in the listing.
func gapsOf(l blocks.Listing, failed []blocks.Failure) (gaps []blocks.Gap) {
	for _, f := range failed {
		for _, b := range l.Blocks {
			if b.ID == f.ID && !l.HasParents(b) {
				gaps = append(gaps, blocks.Gap{MinTime: b.MinTime, MaxTime: b.MaxTime - 1, Text: fmt.Sprintf("block %s cannot be read: %v", f.ID, f.Err)})
			}
		}
	}
	return gaps
}

const headPrefix = "head-"

// removeHeads removes the blocks of all heads but one. Readers of them have their
// files open.
func (r *Reader) removeHeads(keep string) {
	entries, err := os.ReadDir(r.cfg.Temp)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.logger.Warn("cannot list blocks of earlier heads", "err", err)
	}
	for _, e := range entries {
		path := filepath.Join(r.cfg.Temp, e.Name())
		if !strings.HasPrefix(e.Name(), headPrefix) || path == keep {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			r.logger.Warn("cannot remove blocks of an earlier head", "dir", path, "err", err)
		}
	}
}
