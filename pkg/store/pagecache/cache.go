package pagecache

import (
	"context"
	"errors"
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

// pageSize is the number of bytes of every page but the last of an object.
const pageSize = 16 << 10

// Object is one immutable object of a block.
type Object struct {
	Block ulid.ULID
	// File is the number of the object in its block: 0 is the index, n > 0 is chunk
	// segment n.
	File uint32
	// Name is the full name in the bucket, Size its length in bytes.
	Name string
	Size int64
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
	// MaxGap is the number of bytes between two ranges up to which one request reads
	// both.
	MaxGap int64
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

// Forget drops the pages of a block.
func (c *Cache) Forget(block ulid.ULID) {
	if c.memory != nil {
		for k := range c.memory.Keys() {
			if k.block == block {
				c.memory.Invalidate(k)
			}
		}
	}
	if c.disk != nil {
		c.disk.forget(block)
	}
}

// inMemory says whether pages like k are kept in memory.
func (c *Cache) inMemory(k key) bool {
	return c.memory != nil && (k.file == 0 || c.disk == nil)
}

// get calls got with each of the pages, which ascend, that is kept, and
// returns the others.
func (c *Cache) get(o Object, pages []uint32, got func(page uint32, b []byte)) (missing []uint32) {
	inMemory := c.inMemory(key{file: o.File})
	missing = pages
	if inMemory {
		missing = make([]uint32, 0, len(pages))
		for _, page := range pages {
			if b, ok := c.memory.GetIfPresent(key{o.Block, o.File, page}); ok {
				got(page, b)
				continue
			}
			missing = append(missing, page)
		}
	}
	if c.disk == nil || len(missing) == 0 {
		return missing
	}
	return c.disk.get(o, missing, func(page uint32, b []byte) {
		if inMemory {
			b = slices.Clone(b) // without the pages around it
			c.memory.Set(key{o.Block, o.File, page}, b)
		}
		got(page, b)
	})
}

func (c *Cache) put(k key, page []byte) {
	if c.inMemory(k) {
		c.memory.Set(k, page)
	}
	if c.disk != nil {
		c.disk.put(k, page)
	}
}

// Prime adds pages that were read for another purpose: those that b, which begins at
// off in the object, has completely.
func (c *Cache) Prime(o Object, off int64, b []byte) {
	for page := (off + pageSize - 1) / pageSize; ; page++ {
		start := page * pageSize
		end := min(start+pageSize, o.Size)
		if start >= o.Size || end > off+int64(len(b)) {
			return
		}
		c.put(key{o.Block, o.File, uint32(page)}, slices.Clone(b[start-off:end-off]))
	}
}

// Counts has the cost of reading.
type Counts struct {
	// Requests and Bytes are those of the bucket.
	Requests, Bytes int64
	// Hits is the number of pages that were in the cache.
	Hits int64
}

// Add adds the counts of o.
func (c *Counts) Add(o Counts) {
	c.Requests += o.Requests
	c.Bytes += o.Bytes
	c.Hits += o.Hits
}

// fetch reads pages, which ascend, and calls got with each of them, and perhaps
// with pages between them.
func (c *Cache) fetch(ctx context.Context, o Object, pages []uint32, got func(page uint32, b []byte)) (Counts, error) {
	runs := plan(pages, int(c.cfg.MaxGap/pageSize), max(1, int(c.cfg.MaxRead/pageSize)))
	counts := Counts{Requests: int64(len(runs))}
	read := make([][][]byte, len(runs))
	g, ctx := errgroup.WithContext(ctx)
	for i, r := range runs {
		counts.Bytes += min(int64(r.end)*pageSize, o.Size) - int64(r.first)*pageSize
		g.Go(func() (err error) {
			read[i], err = c.readRun(ctx, o, r)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return Counts{}, err
	}
	for i, r := range runs {
		for j, b := range read[i] {
			page := r.first + uint32(j)
			c.put(key{o.Block, o.File, page}, b)
			got(page, b)
		}
	}
	c.m.requests.Add(float64(counts.Requests))
	c.m.bytes.Add(float64(counts.Bytes))
	return counts, nil
}

func (c *Cache) readRun(ctx context.Context, o Object, r run) ([][]byte, error) {
	select {
	case c.gate <- struct{}{}:
		defer func() { <-c.gate }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	off := int64(r.first) * pageSize
	length := min(int64(r.end)*pageSize, o.Size) - off
	body, err := c.bkt.GetRange(ctx, o.Name, off, length)
	if err != nil {
		return nil, fmt.Errorf("read %d bytes of %s at %d: %w", length, o.Name, off, err)
	}
	pages, err := readPages(body, length)
	if err := errors.Join(err, body.Close()); err != nil {
		return nil, fmt.Errorf("read %d bytes of %s at %d: %w", length, o.Name, off, err)
	}
	return pages, nil
}

// readPages allocates each page separately, so that a cached page does not keep its
// neighbours in memory.
func readPages(body io.Reader, length int64) ([][]byte, error) {
	pages := make([][]byte, 0, (length+pageSize-1)/pageSize)
	for length > 0 {
		b := make([]byte, min(pageSize, length))
		if _, err := io.ReadFull(body, b); err != nil {
			return nil, err
		}
		length -= int64(len(b))
		pages = append(pages, b)
	}
	return pages, nil
}
