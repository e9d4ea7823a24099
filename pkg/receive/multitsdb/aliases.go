package multitsdb

import (
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
)

// Bounds of the label bytes that are kept in a form that differs from the stored
// series: a sender that writes the labels in ever another order gains nothing.
const (
	maxAliasesOfSeries = 4
	maxAliases         = 1 << 20
)

// aliases finds series by label bytes that are not those of the stored series:
// not sorted, with empty values, or with a label that had to be renamed. They
// belong to a seriesCache and share its lock.
type aliases struct {
	by map[string]cacheEntry
	of map[storage.SeriesRef][]string
}

// put notes that the bytes stand for the series. The caller holds the lock for
// writing.
func (a *aliases) put(raw []byte, e cacheEntry) {
	if _, ok := a.by[string(raw)]; !ok && (len(a.of[e.ref]) >= maxAliasesOfSeries || len(a.by) >= maxAliases) {
		return
	}
	if a.by == nil {
		a.by, a.of = map[string]cacheEntry{}, map[storage.SeriesRef][]string{}
	}
	key := string(raw)
	if old, ok := a.by[key]; !ok || old.ref != e.ref {
		a.of[e.ref] = append(a.of[e.ref], key)
	}
	a.by[key] = e
}

// remove forgets a series that has left the head. The caller holds the lock for
// writing.
func (a *aliases) remove(ref storage.SeriesRef) {
	for _, key := range a.of[ref] {
		if a.by[key].ref == ref {
			delete(a.by, key)
		}
	}
	delete(a.of, ref)
}

// alias returns the series that the bytes stand for.
func (c *seriesCache) alias(raw []byte) (cacheEntry, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e, ok := c.aliases.by[string(raw)]
	return e, ok
}

// use makes the cache one for these external labels and returns its age, which
// changes when it is emptied: what a series is stored as depends on the names of
// the external labels.
func (c *seriesCache) use(external labels.Labels) (age uint64) {
	c.mu.RLock()
	same, age := labels.Equal(c.external, external), c.age
	c.mu.RUnlock()
	if same {
		return age
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if labels.Equal(c.external, external) {
		return c.age
	}
	c.external = external
	c.age++
	c.slots, c.entries, c.free, c.used = make([]uint64, minSlots), nil, nil, 0
	c.aliases = aliases{}
	return c.age
}
