package shipper

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// presence is what is known of a shipped block in the bucket.
type presence struct {
	due   time.Time
	pause time.Duration
	// damaged says that the bucket has another content than was shipped.
	damaged bool
	// again counts how often the block was shipped again.
	again int
}

const (
	// maxRecheckPause bounds the time between two checks of a block. It is shorter than
	// the usual time between the mark for deletion and the deletion, so that the mark
	// is seen.
	maxRecheckPause = 24 * time.Hour
	// rechecks bounds the blocks that one pass looks up.
	rechecks = 64
	// maxAgain bounds how often a block is shipped again, in case something removes it
	// each time without a mark for deletion.
	maxAgain = 2
)

// present records that a block was in the bucket, to be checked again after pause.
func (s *Shipper) present(id ulid.ULID, pause time.Duration) {
	p := s.presence[id]
	p.pause = min(pause, maxRecheckPause)
	p.due, p.damaged = time.Now().Add(p.pause), false
	s.presence[id] = p
}

// recheck looks up shipped blocks of the directory in the bucket, each when it is due.
// Those that vanished there or are damaged no longer count as shipped, so that the pass
// ships them. It does not look up compacted blocks that count as shipped because of
// their sources.
func (s *Shipper) recheck(ctx context.Context) error {
	if s.cfg.RecheckInterval <= 0 {
		return nil
	}
	now, left := time.Now(), rechecks
	for _, m := range s.pass.blocks {
		if !s.Shipped(m.ULID) || m.Stats.NumSamples == 0 || s.leftOut(m) || slices.Contains(s.record.Released, m.ULID) {
			continue
		}
		p, known := s.presence[m.ULID]
		if !known {
			// Many processes may have been started at the same time.
			p = presence{due: now.Add(rand.N(s.cfg.RecheckInterval)), pause: s.cfg.RecheckInterval}
			s.presence[m.ULID] = p
		}
		if now.Before(p.due) {
			continue
		}
		if left--; left < 0 {
			return nil
		}
		if err := s.recheckBlock(ctx, m); err != nil {
			return fmt.Errorf("look for shipped block %s in the bucket: %w", m.ULID, err)
		}
	}
	return nil
}

// recheckBlock looks up one block.
func (s *Shipper) recheckBlock(ctx context.Context, m *block.Meta) error {
	objects := map[string]int64{}
	err := s.deps.Bucket.List(ctx, m.ULID.String(), func(o bucket.Object) error {
		if id, rel, ok := block.ParsePath(o.Name); ok && id == m.ULID {
			objects[rel] = o.Size
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, marked := objects[block.DeletionMarkFile]
	_, visible := objects[block.MetaFile]
	switch {
	case marked:
		// An operator or the compactor has decided about the block.
		s.release(m.ULID)
		return nil
	case visible && s.complete(m.ULID, objects):
		s.present(m.ULID, 2*s.presence[m.ULID].pause)
		return nil
	case visible:
		s.shipAgain(m, reason.BlockSizeMismatch)
		return nil
	}
	replaced, err := s.replaced(ctx, m)
	if err != nil {
		return err
	}
	if replaced {
		s.release(m.ULID)
		return nil
	}
	s.shipAgain(m, reason.VanishedFromBucket)
	return nil
}

// complete says whether the objects are the files of the local block. Some listings have
// no sizes; then the names decide.
func (s *Shipper) complete(id ulid.ULID, objects map[string]int64) bool {
	for _, f := range s.files(id) {
		size, ok := objects[f.name]
		if !ok || f.name != block.MetaFile && size >= 0 && size != f.size {
			return false
		}
	}
	return true
}

// replaced says whether blocks of the bucket were made of a block, by compaction or by a
// tool that rewrites blocks.
func (s *Shipper) replaced(ctx context.Context, m *block.Meta) (bool, error) {
	remote, err := s.remote(ctx)
	if err != nil {
		return false, err
	}
	sources := map[ulid.ULID]bool{}
	for _, r := range remote {
		for _, src := range r.Compaction.Sources {
			sources[src] = true
		}
		if rewrites(r, m.ULID) {
			return true, nil
		}
	}
	return sources[m.ULID] || containsAll(sources, m.Compaction.Sources), nil
}

// rewrites says whether a tool made r of the block id.
func rewrites(r *block.Meta, id ulid.ULID) bool {
	var list []struct {
		Sources []ulid.ULID `json:"sources"`
	}
	if len(r.Thanos.Rewrites) == 0 || json.Unmarshal(r.Thanos.Rewrites, &list) != nil {
		return false
	}
	for _, rw := range list {
		if slices.Contains(rw.Sources, id) {
			return true
		}
	}
	return false
}

// release ends the checks of a block: it left the bucket, or will, on purpose.
func (s *Shipper) release(id ulid.ULID) {
	delete(s.presence, id)
	s.record.Released = append(s.record.Released, id)
	slices.SortFunc(s.record.Released, ulid.ULID.Compare)
}

// shipAgain makes the pass upload a block that was shipped before.
func (s *Shipper) shipAgain(m *block.Meta, why reason.Reason) {
	p := s.presence[m.ULID]
	if p.again == maxAgain {
		s.deps.Logger.Error("shipped block is not in the bucket, and was shipped again already", "block", m.ULID, "reason", why, "uploads", 1+p.again)
		s.release(m.ULID)
		return
	}
	p.again++
	p.damaged = why == reason.BlockSizeMismatch
	s.presence[m.ULID] = p
	s.setShipped(m.ULID, false)
	s.deps.Metrics.reshipped.Inc()
	s.deps.Logger.Warn("shipped block is not in the bucket, shipping it again", "block", m.ULID, "reason", why)
}
