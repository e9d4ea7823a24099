package hashring

import (
	"container/list"
	"sync"
)

// defaultCacheSize is how many tenants' rings an element keeps.
const defaultCacheSize = 100

// shardCache keeps the rings of the tenants of one element that were used last. It
// may be used concurrently.
type shardCache struct {
	most int

	mu    sync.Mutex
	order list.List // of shardEntry, the last used first
	by    map[string]*list.Element
}

type shardEntry struct {
	tenant string
	ring   *Ring
}

func newShardCache(most int) *shardCache {
	if most <= 0 {
		most = defaultCacheSize
	}
	return &shardCache{most: most, by: map[string]*list.Element{}}
}

// get returns the ring of the tenant, nil when it is not kept.
func (c *shardCache) get(tenant string) *Ring {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.by[tenant]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(shardEntry).ring
}

// add keeps a ring, in place of the one that was not used for the longest time when
// there are too many.
func (c *shardCache) add(tenant string, ring *Ring) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.by[tenant]; e != nil {
		return // another request was faster, with an equal ring
	}
	c.by[tenant] = c.order.PushFront(shardEntry{tenant, ring})
	if c.order.Len() > c.most {
		oldest := c.order.Back()
		delete(c.by, oldest.Value.(shardEntry).tenant)
		c.order.Remove(oldest)
	}
}
