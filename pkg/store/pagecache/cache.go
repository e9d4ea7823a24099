package pagecache

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/maypok86/otter/v2"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// PageSize is the number of bytes of every page but the last of an object. The chunks
// that a series has in a block of two hours have about as many, so that series that
// are scattered over their metric cost little more than their bytes.
const PageSize = 4 << 10

const pageSize = PageSize

// Object is one immutable object of a block.
type Object struct {
	Block ulid.ULID
	// File is the number of the object in its block: 0 is the index, n > 0 is chunk
	// segment n.
	File uint32
	// Name is the full name in the bucket, Size its length in bytes.
	Name string
	Size int64
	// Tenant is the one that reads, for its share of the disk tier; empty for none.
	Tenant string
}

type key struct {
	block      ulid.ULID
	file, page uint32
}

// Config has the sizes of the cache, and the bounds for turning ranges into requests.
type Config struct {
	// MemoryBytes bounds the pages kept in memory: those of indexes, and
	// without a disk all.
	MemoryBytes int64
	// DiskBytes bounds the pages of all kinds kept in files in DiskDir, where
	// they survive a restart; 0 means none.
	DiskBytes int64
	DiskDir   string
	// RequestCost is the number of bytes whose transfer costs as much as one request:
	// its time to the first byte times the bandwidth. Smaller gaps between two ranges
	// are read along, within bounds.
	RequestCost int64
	// MaxRead is the number of bytes that one request asks for at most.
	MaxRead int64
	// Concurrency bounds the requests that run at one time.
	Concurrency int
}

// Cache reads pages. It may be used concurrently.
type Cache struct {
	cfg    Config
	bkt    bucket.Reader
	memory *otter.Cache[key, []byte]
	disk   *disk // nil when there is none
	gate   chan struct{}
	m      *metrics

	flights flights
	buffers buffers
}

// New makes a cache over the bucket.
func New(bkt bucket.Reader, cfg Config, reg prometheus.Registerer) (*Cache, error) {
	if cfg.Concurrency < 1 {
		return nil, fmt.Errorf("page cache: concurrency %d is below 1", cfg.Concurrency)
	}
	c := &Cache{cfg: cfg, bkt: bkt, gate: make(chan struct{}, cfg.Concurrency)}
	if cfg.MemoryBytes > 0 {
		memory, err := otter.New(&otter.Options[key, []byte]{
			MaximumWeight: uint64(cfg.MemoryBytes),
			Weigher:       func(_ key, b []byte) uint32 { return uint32(len(b)) + 96 },
			Executor:      func(f func()) { f() },
		})
		if err != nil {
			return nil, fmt.Errorf("page cache of %d bytes: %w", cfg.MemoryBytes, err)
		}
		c.memory = memory
	}
	if cfg.DiskBytes > 0 {
		d, err := openDisk(vfs.OS(), cfg.DiskDir, cfg.DiskBytes)
		if err != nil {
			return nil, err
		}
		c.disk = d
	}
	c.m = newMetrics(reg, c)
	return c, nil
}

// Close closes the files. Later reads use memory and the bucket.
func (c *Cache) Close() error {
	if c.disk == nil {
		return nil
	}
	return c.disk.close()
}

// Distrust makes the next reads of a block find pages of it that were damaged on disk
// since they were compared with their checksums. It is called when data of the block turns
// out to be damaged.
func (c *Cache) Distrust(block ulid.ULID) {
	c.forgetMemory(block)
	if c.disk != nil {
		c.disk.distrust(block)
	}
}

func (c *Cache) forgetMemory(block ulid.ULID) {
	if c.memory == nil {
		return
	}
	for k := range c.memory.Keys() {
		if k.block == block {
			c.memory.Invalidate(k)
		}
	}
}

// inMemory says whether pages like k are kept in memory.
func (c *Cache) inMemory(k key) bool {
	return c.memory != nil && (k.file == 0 || c.disk == nil)
}

// get copies the pages of a run that are kept into the run, and appends the others to
// missing.
func (c *Cache) get(o Object, into *loadedRun, missing []uint32) []uint32 {
	inMemory := c.inMemory(key{file: o.File})
	if !inMemory && c.disk != nil {
		return c.disk.get(o, into, into.run, missing)
	}
	for page := into.first; page < into.end; page++ {
		if b, ok := c.inMemoryPage(o, page, inMemory); ok && len(b) == len(into.page(page)) {
			copy(into.page(page), b)
			continue
		}
		if c.disk == nil {
			missing = append(missing, page)
			continue
		}
		// Pages that are together on disk are read together.
		absent := run{first: page, end: page + 1}
		for absent.end < into.end {
			if _, ok := c.inMemoryPage(o, absent.end, inMemory); ok {
				break
			}
			absent.end++
		}
		before := len(missing)
		missing = c.disk.get(o, into, absent, missing)
		for found := absent.first; inMemory && found < absent.end; found++ {
			if !slices.Contains(missing[before:], found) {
				c.memory.Set(key{o.Block, o.File, found}, bytes.Clone(into.page(found)))
			}
		}
		page = absent.end - 1
	}
	return missing
}

func (c *Cache) inMemoryPage(o Object, page uint32, inMemory bool) ([]byte, bool) {
	if !inMemory {
		return nil, false
	}
	return c.memory.GetIfPresent(key{o.Block, o.File, page})
}

// getPages copies pages, which ascend, that are kept into their places, and returns
// the others.
func (c *Cache) getPages(o Object, pages []uint32, place func(page uint32) []byte) (missing []uint32) {
	for _, page := range pages {
		one := loadedRun{run: run{first: page, end: page + 1}, b: place(page)}
		missing = c.get(o, &one, missing)
	}
	return missing
}

// absent appends the pages of a run that are not kept to missing.
func (c *Cache) absent(o Object, r run, missing []uint32) []uint32 {
	inMemory := c.inMemory(key{file: o.File})
	for page := r.first; page < r.end; page++ {
		if inMemory {
			if _, ok := c.memory.GetEntryQuietly(key{o.Block, o.File, page}); ok {
				continue
			}
		}
		if c.disk != nil && c.disk.has(o, page) {
			continue
		}
		missing = append(missing, page)
	}
	return missing
}

// Keeps is the number of bytes of an object that the cache may keep at most: of the
// index, or of chunks.
func (c *Cache) Keeps(file uint32) int64 {
	var n int64
	if c.disk != nil {
		n = c.cfg.DiskBytes
	}
	if c.inMemory(key{file: file}) {
		n = max(n, c.cfg.MemoryBytes)
	}
	return n
}

// put keeps neighbouring pages, the first of which is number first.
func (c *Cache) put(o Object, first uint32, b []byte) {
	if c.inMemory(key{file: o.File}) {
		page := first
		for rest := b; len(rest) > 0; page++ {
			n := min(pageSize, len(rest))
			c.memory.Set(key{o.Block, o.File, page}, bytes.Clone(rest[:n]))
			rest = rest[n:]
		}
	}
	if c.disk != nil {
		c.disk.put(o, first, b)
	}
}

// drop removes the pages of a run.
func (c *Cache) drop(o Object, r run) {
	for page := r.first; page < r.end; page++ {
		k := key{o.Block, o.File, page}
		if c.inMemory(k) {
			c.memory.Invalidate(k)
		}
		if c.disk != nil {
			c.disk.drop(k)
		}
	}
}

// Prime adds pages that were read for another purpose: those that b, which begins at
// off in the object, has completely.
func (c *Cache) Prime(o Object, off int64, b []byte) {
	first := (off + pageSize - 1) / pageSize
	start, end := first*pageSize, off+int64(len(b))
	if end < o.Size {
		end -= end % pageSize
	}
	if start < end {
		c.put(o, uint32(first), b[start-off:end-off])
	}
}

// Counts has the cost of reading.
type Counts struct {
	// Requests and Bytes are those of the bucket.
	Requests, Bytes int64
	// Hits is the number of loaded pages that were in the cache, Misses that of those
	// that were not. Ahead is the number of pages that a Prefetch read.
	Hits, Misses, Ahead int64
}

// Add adds the counts of o.
func (c *Counts) Add(o Counts) {
	c.Requests += o.Requests
	c.Bytes += o.Bytes
	c.Hits += o.Hits
	c.Misses += o.Misses
	c.Ahead += o.Ahead
}

// fetch reads pages, which ascend, puts them into the cache, and calls got with each of
// them, and perhaps with pages between them; concurrently, but not for one page.
func (c *Cache) fetch(ctx context.Context, o Object, pages []uint32, got func(page uint32, b []byte)) (Counts, error) {
	runs := plan(pages, costs{request: int(c.cfg.RequestCost / pageSize), most: max(1, int(c.cfg.MaxRead/pageSize))})
	counts := Counts{Requests: int64(len(runs))}
	g, ctx := errgroup.WithContext(ctx)
	for _, r := range runs {
		counts.Bytes += min(int64(r.end)*pageSize, o.Size) - int64(r.first)*pageSize
		g.Go(func() error { return c.readRun(ctx, o, r, got) })
	}
	if err := g.Wait(); err != nil {
		return Counts{}, err
	}
	c.m.requests.Add(float64(counts.Requests))
	c.m.bytes.Add(float64(counts.Bytes))
	return counts, nil
}

// pieceBytes is how much of the answer of a request is in memory at a time.
const pieceBytes = 64 << 10

// readRun reads a run with one request.
func (c *Cache) readRun(ctx context.Context, o Object, r run, got func(page uint32, b []byte)) (err error) {
	select {
	case c.gate <- struct{}{}:
		defer func() { <-c.gate }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	off := int64(r.first) * pageSize
	length := min(int64(r.end)*pageSize, o.Size) - off
	failed := func(err error) error {
		return fmt.Errorf("read %d bytes of %s at %d: %w", length, o.Name, off, err)
	}
	body, err := c.bkt.GetRange(ctx, o.Name, off, length)
	if err != nil {
		return failed(err)
	}
	defer func() {
		if cerr := body.Close(); err == nil && cerr != nil {
			err = failed(cerr)
		}
	}()
	buf := c.buffers.get(int(min(pieceBytes, length)))
	defer c.buffers.put(buf)
	for page, left := r.first, length; left > 0; {
		b := buf[:min(left, int64(len(buf)))]
		if _, err := io.ReadFull(body, b); err != nil {
			// The server may have sent another range, which shows only at the end.
			c.drop(o, run{first: r.first, end: page})
			return failed(err)
		}
		left -= int64(len(b))
		c.put(o, page, b)
		for len(b) > 0 {
			n := min(pageSize, len(b))
			got(page, b[:n])
			b, page = b[n:], page+1
		}
	}
	return nil
}
