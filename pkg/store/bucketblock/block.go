package bucketblock

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/block/headerbundle"
	"github.com/hindsight-io/hindsight/pkg/bucket"
	"github.com/hindsight-io/hindsight/pkg/store/columncache"
	"github.com/hindsight-io/hindsight/pkg/store/pagecache"
	"github.com/hindsight-io/hindsight/pkg/tenant"
)

// Env has the dependencies and settings that all blocks of a gateway share.
type Env struct {
	Bucket bucket.Reader
	Pages  *pagecache.Cache
	// Columns keeps chunks of floats in a form that is read faster; nil keeps none.
	Columns *columncache.Cache
	// HeaderDir holds the local files of index headers; empty means that they
	// are kept in memory only.
	HeaderDir string
	// Bundles has headers that other processes made; nil has none. HeaderWanted says
	// whether the header of a block of a bundle is of use here.
	Bundles      *headerbundle.Reader
	HeaderWanted func(ulid.ULID) bool
	// HeaderGate bounds how many index headers are made at one time.
	HeaderGate chan struct{}
	// LazyRatio is the number of values per series above which the matchers of
	// a label filter series instead of fetching postings; 0 means no bound. Eager
	// turns all such filtering off.
	LazyRatio float64
	Eager     bool
	Logger    *slog.Logger

	// ObjectReads counts the reads of blocks that columns objects answered, ObjectFailures
	// those that found an object damaged or missing.
	ObjectReads, ObjectFailures atomic.Int64

	batches sync.Pool // of *batch
	columns sync.Pool // of *columnReader
}

// Forget drops what is kept of the chunks and the index of a block, and overwrites it on
// disk: it may have samples that were deleted.
func (e *Env) Forget(id ulid.ULID) {
	e.Pages.Forget(id)
	if e.Columns != nil {
		e.Columns.Forget(id)
	}
}

// Block is one block of the bucket. It is opened with one reference, and every user
// takes another one; releasing the last frees its header. All methods may be called
// concurrently.
type Block struct {
	env  *Env
	meta *block.Meta

	listed map[string]int64 // sizes of objects by path in the block; shared, read only

	// object is the columns object, if there is one.
	object columnsObject

	// turns counts the requests that may keep columns, see columnReader.
	turns atomic.Uint32

	mu     sync.Mutex
	asked  map[string]int64 // sizes that were not listed
	refs   int
	header headerState
}

// Open makes a block without reading anything. sizes gives the size of each
// object by its path within the block, or -1 where the listing has none; Block keeps
// it and does not change it.
func Open(env *Env, meta *block.Meta, sizes map[string]int64) *Block {
	b := &Block{env: env, meta: meta, refs: 1, listed: sizes}
	b.header.lock = make(chan struct{}, 1)
	b.object.find(sizes)
	return b
}

// Meta returns the block's meta.json.
func (b *Block) Meta() *block.Meta { return b.meta }

// Acquire takes a reference. It returns false when the last one was released.
func (b *Block) Acquire() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refs == 0 {
		return false
	}
	b.refs++
	return true
}

// Release releases a reference. With the last one, the index header is unloaded, and
// its file and the cached pages of the block are removed.
func (b *Block) Release() error {
	b.mu.Lock()
	b.refs--
	last := b.refs == 0
	b.mu.Unlock()
	if !last {
		return nil
	}
	b.env.Forget(b.meta.ULID)
	return b.dropHeader()
}

// InUse says whether the last reference was not released yet.
func (b *Block) InUse() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refs > 0
}

// Keep is Release, except that it keeps the file of the header for the next start of
// the process.
func (b *Block) Keep() error {
	b.mu.Lock()
	b.refs--
	last := b.refs == 0
	b.mu.Unlock()
	if !last {
		return nil
	}
	return b.unloadHeader()
}

func (b *Block) headerPath() string {
	if b.env.HeaderDir == "" {
		return ""
	}
	return filepath.Join(b.env.HeaderDir, b.meta.ULID.String())
}

// HeaderID returns the block to which a file in the header directory belongs.
func HeaderID(file string) (ulid.ULID, bool) {
	id, err := ulid.ParseStrict(file)
	return id, err == nil
}

const indexPath = "index"

// file describes a file of the block. It asks the bucket for the size, once, when
// neither the listing nor meta.json has it.
func (b *Block) file(ctx context.Context, rel string, file uint32) (pagecache.Object, error) {
	o := pagecache.Object{Block: b.meta.ULID, File: file, Name: path.Join(b.meta.ULID.String(), rel), Tenant: tenant.FromContext(ctx)}
	if size, ok := b.knownSize(rel); ok {
		o.Size = size
		return o, nil
	}
	stat, err := b.env.Bucket.Stat(ctx, o.Name)
	if err != nil {
		return o, fmt.Errorf("find the size of %s: %w", o.Name, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asked == nil {
		b.asked = map[string]int64{}
	}
	b.asked[rel] = stat.Size
	o.Size = stat.Size
	return o, nil
}

// chunkBytes is the size of all chunk segments, or 0 when it is not known.
func (b *Block) chunkBytes() int64 {
	var total int64
	for rel, size := range b.listed {
		if strings.HasPrefix(rel, block.ChunksDir+"/") {
			if size < 0 {
				return 0
			}
			total += size
		}
	}
	return total
}

func (b *Block) knownSize(rel string) (int64, bool) {
	if size, ok := b.listed[rel]; ok && size >= 0 {
		return size, true
	}
	for _, f := range b.meta.Thanos.Files {
		if f.RelPath == rel && f.SizeBytes > 0 {
			return f.SizeBytes, true
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	size, ok := b.asked[rel]
	return size, ok
}

// segmentPath is the path of chunk segment number seq, counted from 0.
func segmentPath(seq uint32) string { return fmt.Sprintf("chunks/%06d", uint64(seq)+1) }
