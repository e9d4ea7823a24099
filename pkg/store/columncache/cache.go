package columncache

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

const (
	fileName = "columns"
	// regions are the parts of the file, which are written one after the other. The part to
	// be written next is emptied first.
	regions = 16
	// minRegion is the size of the smallest one.
	minRegion = 4 * maxEntry
	// tablePages is the number of neighbouring pages of an object that share a table: few, so
	// that pages that are far from each other take little memory.
	tablePages = 16
	// maxDeclined bounds the pages that are marked as not worth an entry.
	maxDeclined = 1 << 18
	// readTogether is the largest number of bytes of one read.
	readTogether = 1 << 20
)

// Config says where the file is, and how large.
type Config struct {
	// Dir is the directory of the file, which is made if it does not exist. Another process
	// must not use it.
	Dir string
	// Bytes is the size of the file.
	Bytes int64
	// MinAge is how long a part of the file is kept at least before it is written again. While
	// no part is as old, nothing is kept: what a query would keep, it would take from others.
	MinAge time.Duration
	// Now is the clock; nil is that of the system.
	Now func() time.Time
}

// Cache may be used concurrently.
type Cache struct {
	f      vfs.File
	minAge time.Duration
	now    func() time.Time
	region int64 // size
	m      *metrics

	mu     sync.Mutex
	tables map[tableKey]*table
	// declined counts such pages, and those that were once.
	declined int
	// began is when a region was begun; current is the one that is being written, up to the
	// position at, exclusive; emptying says that it is not ready yet.
	began    [regions]time.Time
	current  int
	at       int64
	emptying bool
	closed   bool
}

type tableKey struct {
	block ulid.ULID
	file  uint32
	first uint32 // page / tablePages
}

func (p Page) table() (tableKey, uint32) {
	return tableKey{p.Block, p.File, p.Number / tablePages}, p.Number % tablePages
}

// table says where the entries of neighbouring pages are.
type table struct{ place [tablePages]place }

// place is where an entry is, in units; length 0 is nowhere.
type place struct {
	at     uint32
	length uint16
}

// declined is the length of the place of a page that is not worth an entry.
const declined = 1<<16 - 1

// Open makes the file anew. reg may be nil.
func Open(fsys vfs.FS, cfg Config, reg prometheus.Registerer) (*Cache, error) {
	region := cfg.Bytes / regions / unit * unit
	if region < minRegion || cfg.Bytes/unit > 1<<32 {
		return nil, fmt.Errorf("column cache of %d bytes: it needs from %d bytes to 256 GiB", cfg.Bytes, regions*minRegion)
	}
	if err := fsys.MkdirAll(cfg.Dir, 0o777); err != nil {
		return nil, fmt.Errorf("create the directory of the column cache: %w", err)
	}
	f, err := fsys.OpenFile(filepath.Join(cfg.Dir, fileName), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return nil, fmt.Errorf("open the column cache: %w", err)
	}
	c := &Cache{f: f, minAge: cfg.MinAge, now: cfg.Now, region: region, tables: map[tableKey]*table{}}
	if c.now == nil {
		c.now = time.Now
	}
	c.began[0] = c.now()
	c.m = newMetrics(reg, c)
	return c, nil
}

// Close closes the file. Later loads find nothing.
func (c *Cache) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	c.tables = nil
	return c.f.Close()
}

// bytes is the size of the entries and what was between them.
func (c *Cache) bytes() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.at - int64(c.current)*c.region
	for i, began := range c.began {
		if i != c.current && !began.IsZero() {
			n += c.region
		}
	}
	return n
}
