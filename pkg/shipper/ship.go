package shipper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sync/errgroup"

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
		s.skip(m, reason.NoSamples)
		return false, nil
	case compacted && s.madeOfShipped(m):
		s.setShipped(m.ULID)
		return false, nil
	case compacted && !s.cfg.UploadCompacted:
		s.unshipped++
		s.skip(m, reason.SourcesNotShipped)
		return false, nil
	}
	if err := s.knownCorrupt(m.ULID); err != nil {
		return false, err
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	// A meta.json that cannot be read is from an upload that broke off at its last
	// step; it is replaced.
	_, err := block.ReadMeta(ctx, s.deps.Bucket, m.ULID)
	if err == nil {
		s.setShipped(m.ULID)
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
		s.setShipped(m.ULID)
		s.deps.Logger.Info("block not shipped", "block", m.ULID, "reason", reason.SourcesInBucket)
	}
	return !covered, err
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
		if _, serr := s.deps.FS.Stat(s.blockDir(m.ULID)); errors.Is(serr, fs.ErrNotExist) {
			return fmt.Errorf("block %s was deleted before it was shipped: %w", m.ULID, err)
		}
		return fmt.Errorf("link block %s for its upload: %w", m.ULID, err)
	}
	if err := block.WriteMetaDir(dir, up); err != nil {
		return err
	}
	if _, err = block.Upload(ctx, s.deps.Bucket, dir, block.UploadConfig{Concurrency: s.cfg.Concurrency, Hash: s.cfg.Hash}); err != nil {
		return err
	}
	s.setShipped(m.ULID)
	s.deps.Metrics.uploads.Inc()
	s.deps.Metrics.lastUpload.SetToCurrentTime()
	s.deps.Logger.Info("block shipped", "block", m.ULID, "mint", m.MinTime, "maxt", m.MaxTime, "samples", m.Stats.NumSamples)
	return nil
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

// linkBlock makes hard links of index and segments of a block in the directory to.
func (s *Shipper) linkBlock(id ulid.ULID, to string) error {
	from := s.blockDir(id)
	if err := s.deps.FS.MkdirAll(filepath.Join(to, block.ChunksDir), 0o777); err != nil {
		return err
	}
	segments, err := s.deps.FS.ReadDir(filepath.Join(from, block.ChunksDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	names := []string{block.IndexFile}
	for _, e := range segments {
		names = append(names, filepath.Join(block.ChunksDir, e.Name()))
	}
	for _, name := range names {
		err := os.Link(filepath.Join(from, name), filepath.Join(to, name))
		if err != nil && !(name == block.IndexFile && errors.Is(err, fs.ErrNotExist)) {
			return err // without an index, the verification fails
		}
	}
	return nil
}

// checkOverlap compares a compacted block with the blocks of the bucket that
// have its external labels. It is covered if they were made of all its sources;
// otherwise a common time would mean duplicate samples, which is an error.
func (s *Shipper) checkOverlap(ctx context.Context, m *block.Meta) (covered bool, err error) {
	all, err := s.withLabels(m)
	if err != nil {
		return false, fmt.Errorf("ship block %s: %w", m.ULID, err)
	}
	if err := s.loadRemote(ctx); err != nil {
		return false, fmt.Errorf("compare block %s with the bucket: %w", m.ULID, err)
	}
	want := all.ExternalLabels()

	sources := map[ulid.ULID]bool{}
	var overlap *block.Meta
	for _, r := range s.remote {
		if r.Resolution() != block.ResolutionRaw || !labels.Equal(r.ExternalLabels(), want) {
			continue
		}
		for _, src := range r.Compaction.Sources {
			sources[src] = true
		}
		if r.MinTime < m.MaxTime && m.MinTime < r.MaxTime {
			overlap = r
		}
	}
	covered = len(m.Compaction.Sources) > 0
	for _, src := range m.Compaction.Sources {
		covered = covered && sources[src]
	}
	if covered || overlap == nil {
		return covered, nil
	}
	return false, fmt.Errorf("block %s overlaps with block %s in the bucket", m.ULID, overlap.ULID)
}

// remoteReads bounds parallel reads of meta.json.
const remoteReads = 16

// loadRemote brings the known metas of the bucket up to date. Blocks whose
// meta.json is missing or malformed are left out.
func (s *Shipper) loadRemote(ctx context.Context) error {
	seen := map[ulid.ULID]bool{}
	err := s.deps.Bucket.List(ctx, "", func(o bucket.Object) error {
		if id, rel, ok := block.ParsePath(o.Name); ok && rel == block.MetaFile {
			seen[id] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	for id := range s.remote {
		if !seen[id] {
			delete(s.remote, id)
		}
	}
	var mu sync.Mutex
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(remoteReads)
	for id := range seen {
		mu.Lock()
		known := s.remote[id] != nil
		mu.Unlock()
		if known {
			continue
		}
		g.Go(func() error {
			m, err := block.ReadMeta(gctx, s.deps.Bucket, id)
			if errors.Is(err, bucket.ErrNotFound) || block.ReasonOf(err) != "" {
				return nil
			}
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			s.remote[id] = m
			return nil
		})
	}
	return g.Wait()
}
