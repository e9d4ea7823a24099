package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/blocklist"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/bucketadmin"
	"github.com/hindsight-io/hindsight/pkg/flags"
	"github.com/hindsight-io/hindsight/pkg/headrecovery"
)

// mending is the input of mend.
type mending struct {
	view  *blocklist.View
	found []bucketadmin.Finding
	// backup gets a copy of each block before it is marked; nil without --repair.
	backup bucket.Bucket
}

// openBackup opens the bucket for copies of blocks, nil without --repair. It is opened before
// blocks are read, which may take hours, so that a wrong configuration is reported at once.
func (c *verifyConfig) openBackup(ctx context.Context, p *process, bkt bucket.Bucket) (bucket.Bucket, error) {
	if !c.repair {
		return nil, nil
	}
	backup, err := p.another(ctx, &c.backup)
	if err == nil && backup.Name() == bkt.Name() {
		err = flags.Invalid(fmt.Errorf("--objstore-backup.config: %s is the bucket that is verified", bkt.Name()))
	}
	return backup, err
}

// mend marks the blocks with findings, each by its first one. With --repair it copies a
// block into the backup bucket before. A block with an unusable meta.json needs no mark,
// because no compactor uses it.
func (c *verifyConfig) mend(ctx context.Context, s streams, p *process, bkt bucket.Bucket, m mending) error {
	v, found := m.view, m.found
	began, err := headrecovery.Now(ctx, bkt)
	if err != nil {
		return err
	}
	local := time.Now()
	now := func() time.Time { return began.Add(time.Since(local)) }
	cl := c.claim.open(s, p, bkt, now)
	defer cl.close(ctx)
	damaged := map[string]bool{}
	for _, f := range found {
		damaged[f.Block] = damaged[f.Block] || f.Damage
	}
	done := map[string]bool{}
	for _, f := range found {
		id, _ := block.ParseID(f.Block)
		of, _ := block.ParseID(f.Of)
		duplicate := c.repair && f.Of != "" && v.Deletion[of] == nil && !damaged[f.Of] && !damaged[f.Block]
		if !f.Damage && !duplicate || v.Metas[id] == nil || done[f.Block] {
			continue
		}
		done[f.Block] = true
		if m.backup != nil {
			if err := bucketadmin.Backup(ctx, bkt, m.backup, id); err != nil {
				return err
			}
		}
		err := cl.with(ctx, id, func(ctx context.Context) error {
			if duplicate && !stands(ctx, bkt, of) {
				return nil // a compactor has merged it since the listing
			}
			return c.mark(ctx, cl.bkt, v, f, now())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// stands says whether a block is there and not marked for deletion.
func stands(ctx context.Context, bkt bucket.Reader, id ulid.ULID) bool {
	_, err := block.ReadMeta(ctx, bkt, id)
	return err == nil && errors.Is(block.ReadMark(ctx, bkt, id, &block.DeletionMark{}), bucket.ErrNotFound)
}

// mark marks one block with a finding: for deletion if its samples are in another block or
// can be made again, and otherwise as excluded from compaction and downsampling.
func (c *verifyConfig) mark(ctx context.Context, bkt bucket.Bucket, v *blocklist.View, f bucketadmin.Finding, now time.Time) error {
	id, _ := block.ParseID(f.Block)
	text := "tools bucket verify: " + f.Kind + ": " + f.Details
	if !f.Damage {
		_, err := block.MarkDeletion(ctx, bkt, id, text, now)
		return err
	}
	if c.reDerive || c.repair {
		source, err := c.sound(ctx, bkt, v, bucketadmin.Derivable(v, v.Metas[id]))
		if err != nil {
			return err
		}
		if source != nil {
			_, err := block.MarkDeletion(ctx, bkt, id, text+", to be made again of block "+source.ULID.String(), now)
			return err
		}
	}
	if !c.quarantine && !c.repair {
		return nil
	}
	cause := block.Cause{Reason: block.MarkManual, Details: text}
	if _, err := block.MarkNoCompact(ctx, bkt, id, cause, now); err != nil {
		return err
	}
	_, err := block.MarkNoDownsample(ctx, bkt, id, cause, now)
	return err
}

// sound returns m if it has no damage, and nil otherwise.
func (c *verifyConfig) sound(ctx context.Context, bkt bucket.Reader, v *blocklist.View, m *block.Meta) (_ *block.Meta, err error) {
	if m == nil || len(bucketadmin.CheckSizes(m, v.Sizes[m.ULID])) > 0 {
		return nil, nil
	}
	dir, err := os.MkdirTemp(c.workDir, "hindsight-verify-")
	if err != nil {
		return nil, fmt.Errorf("make work directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	found, err := bucketadmin.CheckBlock(ctx, bkt, m, dir)
	if errors.Is(err, bucket.ErrNotFound) || slices.ContainsFunc(found, func(f bucketadmin.Finding) bool { return f.Damage }) {
		return nil, nil
	}
	return m, err
}
