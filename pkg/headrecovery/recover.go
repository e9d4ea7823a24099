package headrecovery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/headblock"
	"github.com/hindsight-io/hindsight/pkg/headlog"
)

// Config says how Recover works.
type Config struct {
	Bucket bucket.Bucket
	// WorkDir is the directory for downloads and blocks; empty means that for temporary
	// files. A directory in it is removed at the end.
	WorkDir string
	// Memory and Disk bound the bytes that are taken, for samples and labels and for
	// the downloaded pieces; the blocks take about as much disk again. The flags set
	// them.
	Memory, Disk         int64
	MemoryFlag, DiskFlag string
	// Progress is called after each pass over the pieces; nil means not at all.
	Progress func(headblock.Progress)
	// Logger may be nil.
	Logger *slog.Logger
}

// Result is what Recover did.
type Result struct {
	// Blocks are in the bucket now.
	Blocks []*block.Meta
	// Loss and UnknownSamples are those of headblock.Report.
	Loss           headblock.Loss
	UnknownSamples int64
	// Removed is the number of objects of the head that were removed.
	Removed int
	// Grown says that the head got new pieces meanwhile, so that it was not removed.
	Grown bool
}

// Recover writes the samples of a head that are in no block as blocks into the bucket,
// and then removes the head. A head that cannot be read whole is kept; with the state
// Damaged it is removed. metas are the blocks of the bucket.
func Recover(ctx context.Context, cfg Config, h *Head, metas map[ulid.ULID]*block.Meta) (*Result, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &recovery{cfg: cfg, head: h}
	err := r.run(ctx, metas)
	if err != nil {
		return &r.result, fmt.Errorf("recover head log %s: %w", h.Dir(), err)
	}
	return &r.result, nil
}

type recovery struct {
	cfg    Config
	head   *Head
	result Result
}

// run takes the steps that the state of the head demands.
func (r *recovery) run(ctx context.Context, metas map[ulid.ULID]*block.Meta) error {
	h := r.head
	switch h.State {
	case Lost:
		if err := r.makeBlocks(ctx, metas); err != nil {
			return err
		}
		if r.result.Loss.Places > 0 {
			return nil
		}
	case InBlocks:
		if err := r.writeDone(ctx, nil, ""); err != nil {
			return err
		}
	case Recovered, Damaged:
	default:
		return fmt.Errorf("it is %s", h.State)
	}
	return r.remove(ctx)
}

// makeBlocks takes the steps 1 to 3.
func (r *recovery) makeBlocks(ctx context.Context, metas map[ulid.ULID]*block.Meta) (err error) {
	if r.cfg.WorkDir != "" {
		if err := os.MkdirAll(r.cfg.WorkDir, 0o777); err != nil {
			return fmt.Errorf("make work directory: %w", err)
		}
	}
	dir, err := os.MkdirTemp(r.cfg.WorkDir, workPattern)
	if err != nil {
		return fmt.Errorf("make work directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	pieces := filepath.Join(dir, "pieces")
	if err := os.Mkdir(pieces, 0o777); err != nil {
		return err
	}
	covered := Covered(metas, r.head.Labels)
	src, err := headblock.FetchPieces(ctx, r.cfg.Bucket, r.head.Generation, headblock.PiecesConfig{
		Dir: pieces, MaxBytes: r.cfg.Disk, MaxBytesFlag: r.cfg.DiskFlag, Covered: covered,
	})
	if err != nil {
		return err
	}
	report, err := headblock.Write(ctx, headblock.Config{
		Source: src, Dir: filepath.Join(dir, "blocks"), MinTime: math.MinInt64, Covered: covered, ExternalLabels: r.head.Labels,
		Memory: r.cfg.Memory, MemoryFlag: r.cfg.MemoryFlag, Progress: r.cfg.Progress, Logger: r.cfg.Logger,
	})
	if err != nil {
		return err
	}
	r.result.Loss, r.result.UnknownSamples = report.Loss, report.UnknownSamples
	if err := os.RemoveAll(pieces); err != nil {
		return err
	}
	var ids []ulid.ULID
	for i, m := range report.Blocks {
		if err := Upload(ctx, r.cfg.Bucket, m, report.Dirs[i]); err != nil {
			return err
		}
		r.result.Blocks, ids = append(r.result.Blocks, m), append(ids, m.ULID)
	}
	damaged := ""
	if l := report.Loss; l.Places > 0 {
		damaged = fmt.Sprintf("%d places with %d bytes, the first: %s", l.Places, l.Bytes, l.First)
	}
	return r.writeDone(ctx, ids, damaged)
}

// Upload publishes a block unless the bucket has it. Afterwards it looks for each
// file: a compactor takes an upload without meta.json for an abandoned one if its name
// is of an old time, as that of a recovered block is, and may have deleted a part.
func Upload(ctx context.Context, bkt bucket.Bucket, m *block.Meta, dir string) error {
	for try := 1; ; try++ {
		up, err := block.ReadMeta(ctx, bkt, m.ULID)
		if errors.Is(err, bucket.ErrNotFound) || block.ReasonOf(err) != "" {
			up, err = block.Upload(ctx, bkt, dir, block.UploadConfig{})
		}
		if err != nil {
			return err
		}
		missing, err := missingFile(ctx, bkt, up)
		if err != nil || missing == "" {
			return err
		}
		if try == uploadTries {
			return fmt.Errorf("block %s: another process deleted %s during the upload", m.ULID, missing)
		}
		if err := bkt.Delete(ctx, block.Path(m.ULID, block.MetaFile)); err != nil {
			return fmt.Errorf("upload block %s again: %w", m.ULID, err)
		}
	}
}

const uploadTries = 3

// missingFile returns a file of the block that the bucket does not have.
func missingFile(ctx context.Context, bkt bucket.Reader, m *block.Meta) (string, error) {
	for _, f := range m.Thanos.Files {
		_, err := bkt.Stat(ctx, block.Path(m.ULID, f.RelPath))
		if errors.Is(err, bucket.ErrNotFound) {
			return f.RelPath, nil
		}
		if err != nil {
			return "", fmt.Errorf("look for %s of block %s: %w", f.RelPath, m.ULID, err)
		}
	}
	return "", nil
}

// writeDone is step 3.
func (r *recovery) writeDone(ctx context.Context, blocks []ulid.ULID, damaged string) error {
	r.head.recovered = &recovered{Version: 1, Seq: r.head.lastSeq(), Blocks: blocks, Damaged: damaged}
	return putJSON(ctx, r.cfg.Bucket, r.head.Dir()+"/"+recoveredName, r.head.recovered)
}

func putJSON(ctx context.Context, bkt bucket.Bucket, name string, v any) error {
	b, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	if err := bkt.Upload(ctx, name, bytes.NewReader(b), int64(len(b))); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// remove takes the steps 4 and 5.
func (r *recovery) remove(ctx context.Context) error {
	h, bkt := r.head, r.cfg.Bucket
	now, err := list(ctx, bkt, h.Dir())
	if err != nil {
		return err
	}
	var names []string
	for _, n := range now {
		if n.lastSeq() > h.recovered.Seq {
			// The blocks stay; the next recovery takes what is new.
			r.result.Grown = true
			return bkt.Delete(ctx, h.Dir()+"/"+recoveredName)
		}
		for _, p := range n.Pieces {
			names = append(names, p.Object)
		}
	}
	for _, n := range []string{claimName, recoveredName, headlog.InfoName} {
		names = append(names, h.Dir()+"/"+n)
	}
	for _, n := range names {
		if err := bkt.Delete(ctx, n); err != nil {
			return fmt.Errorf("remove %s: %w", n, err)
		}
		r.result.Removed++
	}
	return nil
}

// workPattern names the directories of running recoveries within a work directory.
const workPattern = "head-*"

// RemoveWork removes the directories that recoveries of a process that was killed have
// left in a work directory. No other process may use it.
func RemoveWork(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, workPattern))
	for _, d := range left {
		err = errors.Join(err, os.RemoveAll(d))
	}
	return err
}

// Now returns the time on the clock of the bucket, which it writes an object for. An
// error says that the bucket cannot be written to.
func Now(ctx context.Context, bkt bucket.Bucket) (time.Time, error) {
	name := headlog.Dir + "/clock"
	if err := bkt.Upload(ctx, name, bytes.NewReader([]byte("{}")), 2); err != nil {
		return time.Time{}, fmt.Errorf("write %s: %w", name, err)
	}
	o, err := bkt.Stat(ctx, name)
	if err != nil {
		return time.Time{}, fmt.Errorf("read time of %s: %w", name, err)
	}
	if o.LastModified.IsZero() {
		return time.Now(), nil // a bucket without times
	}
	return o.LastModified, nil
}
