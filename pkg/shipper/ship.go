package shipper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// needed decides whether a block has to be uploaded: it belongs into the bucket and
// is not there. A block that counts as shipped without an upload is marked so.
func (s *Shipper) needed(ctx context.Context, m *block.Meta) (bool, error) {
	if s.Shipped(m.ULID) {
		return false, nil
	}
	compacted := m.Compaction.Level > 1
	switch {
	case m.Stats.NumSamples == 0:
		// Prometheus may wait for it in the state file before it compacts newer blocks.
		s.skip(m, reason.NoSamples)
		s.setShipped(m.ULID, true)
		return false, nil
	case compacted && s.madeOfShipped(m):
		s.setShipped(m.ULID, true)
		return false, nil
	case s.leftOut(m):
		s.pass.unshipped[m.ULID] = true
		s.skip(m, reason.SourcesNotShipped)
		return false, nil
	}
	if err := s.knownCorrupt(m.ULID); err != nil {
		return false, err
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if p := s.presence[m.ULID]; p.damaged {
		return true, nil
	}
	// A meta.json that cannot be read is from an upload that broke off at its last
	// step; it is replaced.
	_, err := block.ReadMeta(ctx, s.deps.Bucket, m.ULID)
	if err == nil {
		s.setShipped(m.ULID, true)
		return false, nil
	}
	if !errors.Is(err, bucket.ErrNotFound) && block.ReasonOf(err) == "" {
		return false, fmt.Errorf("look for block %s in the bucket: %w", m.ULID, err)
	}
	if !compacted || s.cfg.AllowOutOfOrder {
		return true, nil
	}
	covered, err := s.checkOverlap(ctx, m)
	if covered {
		s.setShipped(m.ULID, true)
		s.deps.Logger.Info("block not shipped", "block", m.ULID, "reason", reason.SourcesInBucket)
	}
	return err == nil && !covered, err
}

// leftOut says whether a block is one of the compacted ones that are not shipped unless
// configured.
func (s *Shipper) leftOut(m *block.Meta) bool {
	return m.Compaction.Level > 1 && !s.cfg.UploadCompacted && m.MaxTime-m.MinTime > s.cfg.BlockDuration.Milliseconds()
}

// madeOfShipped reports whether all data of a compacted block is known to have
// been shipped before. Blocks that were merged leave the directory, so that this
// is seen at the first pass after the merge or not at all.
func (s *Shipper) madeOfShipped(m *block.Meta) bool {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	parents := len(m.Compaction.Parents) > 0
	for _, p := range m.Compaction.Parents {
		parents = parents && s.shipped[p.ULID]
	}
	sources := len(m.Compaction.Sources) > 0
	for _, src := range m.Compaction.Sources {
		sources = sources && s.shipped[src]
	}
	return parents || sources
}

// skip counts and logs a block that is not shipped, once.
func (s *Shipper) skip(m *block.Meta, why reason.Reason) {
	if s.reported[m.ULID] {
		return
	}
	s.reported[m.ULID] = true
	s.deps.Metrics.skipped.Inc()
	s.deps.Logger.Warn("block not shipped", "block", m.ULID, "reason", why, "compaction_level", m.Compaction.Level)
}

// upload uploads a block with its external labels. It works on hard links, because
// the owner of the directory may delete the block at any time.
func (s *Shipper) upload(ctx context.Context, m *block.Meta) (err error) {
	start := time.Now()
	up, err := s.withLabels(m)
	if err != nil {
		return fmt.Errorf("ship block %s: %w", m.ULID, err)
	}
	up.Thanos.Source = s.cfg.Source
	dir := filepath.Join(s.uploadDir(), m.ULID.String())
	defer func() {
		if rerr := s.deps.FS.RemoveAll(dir); rerr != nil {
			err = errors.Join(err, fmt.Errorf("clear upload directory: %w", rerr))
		}
	}()
	if err := s.linkBlock(m.ULID, dir); err != nil {
		if s.deleted(m.ULID) {
			return fmt.Errorf("block %s was deleted before it was shipped: %w", m.ULID, err)
		}
		return fmt.Errorf("link block %s for its upload: %w", m.ULID, err)
	}
	if err := block.WriteMetaDir(dir, up); err != nil {
		return err
	}
	var columns int64
	up, err = block.Upload(ctx, s.deps.Bucket, dir, block.UploadConfig{
		Concurrency: s.cfg.Concurrency, Hash: s.cfg.Hash, Columns: s.cfg.Columns, FS: s.deps.FS,
		ColumnsUploaded: func(bytes int64) { columns = bytes },
		ColumnsFailed: func(err error) {
			s.deps.Metrics.columnsFailures.Inc()
			s.deps.Logger.Warn("block shipped without columns", "block", m.ULID, "err", err)
		},
	})
	if err != nil {
		return err
	}
	s.uploaded(up, columns, time.Since(start))
	return nil
}

// uploaded records an upload, with the bytes of its columns object.
func (s *Shipper) uploaded(m *block.Meta, columns int64, took time.Duration) {
	s.setShipped(m.ULID, true)
	s.present(m.ULID, s.cfg.RecheckInterval)
	bytes := columns
	for _, f := range m.Thanos.Files {
		bytes += f.SizeBytes
	}
	s.deps.Metrics.uploads.Inc()
	s.deps.Metrics.uploadedBytes.Add(float64(bytes))
	s.deps.Metrics.lastUpload.SetToCurrentTime()
	left := 0
	for _, other := range s.pass.blocks {
		if !s.Shipped(other.ULID) && other.Stats.NumSamples > 0 && !s.leftOut(other) {
			left++
		}
	}
	s.deps.Logger.Info("block shipped", "block", m.ULID, "mint", m.MinTime, "maxt", m.MaxTime, "samples", m.Stats.NumSamples,
		"bytes", bytes, "columns_bytes", columns, "duration", took, "blocks_left", left)
}

// withLabels returns the meta.json of a block in the bucket, without its source.
func (s *Shipper) withLabels(m *block.Meta) (*block.Meta, error) {
	lset := s.deps.Labels()
	if lset.IsEmpty() {
		return nil, block.ErrNoLabels
	}
	up := m.Clone()
	if up.Thanos.Labels == nil {
		up.Thanos.Labels = map[string]string{}
	}
	lset.Range(func(l labels.Label) { up.Thanos.Labels[strings.Clone(l.Name)] = strings.Clone(l.Value) })
	return up, nil
}

// linkBlock makes hard links of index and segments of a block in the directory to. It
// copies them where links are not possible. Files that are missing are left to the
// verification, unless the whole block has been deleted meanwhile.
func (s *Shipper) linkBlock(id ulid.ULID, to string) error {
	from := s.blockDir(id)
	if err := s.deps.FS.MkdirAll(filepath.Join(to, block.ChunksDir), 0o777); err != nil {
		return err
	}
	segments, err := s.deps.FS.ReadDir(filepath.Join(from, block.ChunksDir))
	if err != nil && (!errors.Is(err, fs.ErrNotExist) || s.deleted(id)) {
		return err
	}
	names := []string{block.IndexFile}
	for _, e := range segments {
		names = append(names, filepath.Join(block.ChunksDir, e.Name()))
	}
	for _, name := range names {
		err := s.link(filepath.Join(from, name), filepath.Join(to, name))
		if err != nil && (name != block.IndexFile || !errors.Is(err, fs.ErrNotExist) || s.deleted(id)) {
			return err
		}
	}
	return nil
}

// deleted reports whether the owner of the directory has deleted a block.
func (s *Shipper) deleted(id ulid.ULID) bool {
	_, err := s.deps.FS.Stat(s.blockDir(id))
	return errors.Is(err, fs.ErrNotExist)
}

// link makes a hard link. Some file systems have none, the upload directory may be on
// another one, and Linux refuses links to files that another user owns and this one
// cannot write; then it copies the file.
func (s *Shipper) link(from, to string) error {
	if !s.copies {
		err := s.deps.Link(from, to)
		if !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EXDEV) && !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
		s.copies = true
		s.deps.Logger.Warn("hard links refused, copying blocks for their upload", "dir", s.cfg.Dir, "err", err)
	}
	in, err := s.deps.FS.Open(from)
	if err != nil {
		return err
	}
	out, err := s.deps.FS.Create(to)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close(), in.Close())
}
