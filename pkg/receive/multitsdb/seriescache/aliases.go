package seriescache

import (
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
)

// Bounds of the label bytes that are kept in a form that differs from the stored
// series, so that a sender that varies the order of labels cannot fill the memory.
const (
	maxAliasesOfSeries = 4
	maxAliases         = 1 << 20
)

// aliases finds series by label bytes that are not those of the stored series:
// not sorted, with empty values, or with a label that had to be renamed. They
// belong to a Cache and share its lock.
type aliases struct {
	by map[string]Entry
	of map[storage.SeriesRef][]string
}

// put adds the bytes as a form of the series. The caller holds the lock for
// writing.
func (a *aliases) put(raw []byte, e Entry) {
	if _, ok := a.by[string(raw)]; !ok && (len(a.of[e.Ref]) >= maxAliasesOfSeries || len(a.by) >= maxAliases) {
		return
	}
	if a.by == nil {
		a.by, a.of = map[string]Entry{}, map[storage.SeriesRef][]string{}
	}
	key := string(raw)
	if old, ok := a.by[key]; !ok || old.Ref != e.Ref {
		a.of[e.Ref] = append(a.of[e.Ref], key)
	}
	a.by[key] = e
}

// remove drops the forms of a series that has left the head. The caller holds the lock for
// writing.
func (a *aliases) remove(ref storage.SeriesRef) {
	for _, key := range a.of[ref] {
		if a.by[key].Ref == ref {
			delete(a.by, key)
		}
	}
	delete(a.of, ref)
}

// Alias returns the series of which the bytes are another form.
func (c *Cache) Alias(raw []byte) (Entry, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e, ok := c.aliases.by[string(raw)]
	return e, ok
}

// Use makes the cache one for these external labels and returns its age, which
// changes when it is emptied: the labels under which a series is stored depend on
// the names of the external labels.
func (c *Cache) Use(external labels.Labels) (age uint64) {
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
