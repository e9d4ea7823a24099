package columncache

import (
	"github.com/oklog/ulid/v2"
)

// Loaded are the entries of some pages. It keeps its memory for the next Load.
type Loaded struct {
	// Entries are in the order of the pages; one without chunks was not kept. Declined says
	// the same of a page that is not worth to be kept.
	Entries  []Entry
	Declined []bool
	places   []place
}

// Load reads what is kept of pages of an object. memory returns the memory for so many
// bytes, which the entries then lie in. It is called once at most, and its error is returned.
func (c *Cache) Load(block ulid.ULID, file uint32, pages []uint32, l *Loaded, memory func(n int64) ([]byte, error)) error {
	total := c.find(block, file, pages, l)
	if total == 0 {
		return nil
	}
	b, err := memory(total * unit)
	if err != nil {
		return err
	}
	for i := 0; i < len(pages); {
		if l.places[i].length == 0 {
			i++
			continue
		}
		// Entries that lie together are read together.
		end, size := i+1, int64(l.places[i].length)
		for end < len(pages) && l.places[end].follows(l.places[end-1]) && size*unit < readTogether {
			size += int64(l.places[end].length)
			end++
		}
		part := b[:size*unit]
		b = b[size*unit:]
		if _, err := c.f.ReadAt(part, int64(l.places[i].at)*unit); err != nil {
			part = nil
		}
		c.m.hits.Add(float64(end - i))
		for ; i < end; i++ {
			p := Page{block, file, pages[i]}
			var ok bool
			if n := int(l.places[i].length) * unit; n <= len(part) {
				l.Entries[i], ok = parse(part[:n], p)
				part = part[n:]
			}
			if !ok {
				c.drop(p, l.places[i])
			}
		}
	}
	return nil
}

// Has says whether something of a page is kept.
func (c *Cache) Has(p Page) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	tk, in := p.table()
	t := c.tables[tk]
	return t != nil && t.place[in].length > 0 && t.place[in].length != declined
}

func (p place) follows(o place) bool { return p.length > 0 && o.at+uint32(o.length) == p.at }

// find looks up the places of pages, and returns their size in units.
func (c *Cache) find(block ulid.ULID, file uint32, pages []uint32, l *Loaded) (total int64) {
	l.Entries, l.Declined, l.places = l.Entries[:0], l.Declined[:0], l.places[:0]
	c.mu.Lock()
	defer c.mu.Unlock()
	var t *table
	var have tableKey
	for i, page := range pages {
		tk, in := Page{block, file, page}.table()
		if i == 0 || tk != have {
			t, have = c.tables[tk], tk
		}
		var p place
		if t != nil {
			p = t.place[in]
		}
		l.Declined = append(l.Declined, p.length == declined)
		if p.length == declined {
			p = place{}
		}
		l.places = append(l.places, p)
		l.Entries = append(l.Entries, Entry{})
		total += int64(p.length)
	}
	return total
}

// drop forgets an entry that could not be read, because the file was damaged or its place
// was written again.
func (c *Cache) drop(p Page, at place) {
	c.mu.Lock()
	defer c.mu.Unlock()
	tk, in := p.table()
	if t := c.tables[tk]; t != nil && t.place[in] == at {
		t.place[in] = place{}
		c.m.broken.Inc()
	}
}
