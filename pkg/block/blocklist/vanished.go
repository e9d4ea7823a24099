package blocklist

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/block"
)

// maxVanished is how many blocks that a listing lacks are looked for.
const maxVanished = 16

// errIncomplete ends a poll whose listing lacks more than single blocks.
var errIncomplete = errors.New("the listing lacks objects that exist; it is read again")

// keepVanished looks for known blocks whose meta.json is not in the listing next, since
// some providers list a new or changed object late, and a view without them would look
// complete. A block whose meta.json exists stays as it was. When more blocks vanish than
// are looked for, and one of these exists, no absence is believed, and the poll fails. A
// block that cannot be looked for counts as deleted, as the listing says.
func (p *Poller) keepVanished(ctx context.Context, next map[ulid.ULID]*entry) error {
	var vanished []ulid.ULID
	for id, e := range p.known {
		if e.meta == nil {
			continue
		}
		if n := next[id]; n != nil {
			if _, ok := n.find(block.MetaFile); ok {
				continue
			}
		}
		vanished = append(vanished, id)
	}
	var (
		g     errgroup.Group
		mu    sync.Mutex
		exist []ulid.ULID
	)
	g.SetLimit(p.cfg.Concurrency)
	for _, id := range vanished[:min(len(vanished), maxVanished)] {
		g.Go(func() error {
			if _, err := p.bkt.Stat(ctx, block.Path(id, block.MetaFile)); err == nil {
				mu.Lock()
				defer mu.Unlock()
				exist = append(exist, id)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if len(exist) > 0 && len(vanished) > maxVanished {
		return fmt.Errorf("%d blocks vanished, but %s still has its meta.json: %w", len(vanished), exist[0], errIncomplete)
	}
	for _, id := range exist {
		p.log.Warn("block is missing from the listing but exists", "block", id)
		next[id] = p.known[id]
	}
	return ctx.Err()
}
