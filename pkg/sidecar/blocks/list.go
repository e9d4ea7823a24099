package blocks

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
)

// Listing is what a data directory says about its blocks, without the help of its
// owner.
type Listing struct {
	// Blocks are all complete blocks, the superseded ones included.
	Blocks []Block
	// InOrderEnd is the end of the newest block of samples that came in order,
	// math.MinInt64 without any: no block lacks in-order samples before it.
	InOrderEnd int64
	// Skipped are the blocks without a readable meta.json. Their owner ignores
	// them too.
	Skipped []Failure
}

// maxMeta bounds the size of a meta.json, in bytes. The list of sources of the
// largest block takes a fraction of it.
const maxMeta = 16 << 20

// List reads the blocks of a data directory. It ignores directories that are being
// written or deleted, which do not have the name of a block, and blocks that their
// owner marked as deletable.
func List(path string) (Listing, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return Listing{}, fmt.Errorf("list blocks: %w", err)
	}
	l := Listing{InOrderEnd: math.MinInt64}
	for _, e := range entries {
		id, err := ulid.ParseStrict(e.Name())
		if err != nil || !e.IsDir() {
			continue
		}
		dir := filepath.Join(path, e.Name())
		meta, err := readMeta(dir)
		if err != nil {
			l.Skipped = append(l.Skipped, Failure{ID: id, Err: err})
			continue
		}
		c := &meta.Compaction
		if !c.FromOutOfOrder() && !c.FromStaleSeries() && !c.FromSelectedSeries() {
			l.InOrderEnd = max(l.InOrderEnd, meta.MaxTime)
		}
		if c.Deletable {
			continue
		}
		b := Block{ID: id, Path: dir, MinTime: meta.MinTime, MaxTime: meta.MaxTime}
		for _, p := range c.Parents {
			b.Parents = append(b.Parents, p.ULID)
		}
		l.Blocks = append(l.Blocks, b)
	}
	return l, nil
}

// Newest returns the blocks without those that another one supersedes. A block that
// is among broken supersedes none and is itself left out.
func (l Listing) Newest(broken []Failure) []Block {
	isBroken := func(b Block) bool {
		return slices.ContainsFunc(broken, func(f Failure) bool { return f.ID == b.ID })
	}
	superseded := map[ulid.ULID]bool{}
	for _, b := range l.Blocks {
		if isBroken(b) {
			continue
		}
		for _, p := range b.Parents {
			superseded[p] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(l.Blocks), func(b Block) bool { return superseded[b.ID] || isBroken(b) })
}

// HasParents says whether all blocks that b was compacted from are still there.
func (l Listing) HasParents(b Block) bool {
	for _, p := range b.Parents {
		if !slices.ContainsFunc(l.Blocks, func(o Block) bool { return o.ID == p }) {
			return false
		}
	}
	return len(b.Parents) > 0
}

// readMeta reads the meta.json of the block in dir.
func readMeta(dir string) (tsdb.BlockMeta, error) {
	name := filepath.Join(dir, "meta.json")
	st, err := os.Stat(name)
	if err != nil {
		return tsdb.BlockMeta{}, err
	}
	if st.Size() > maxMeta {
		return tsdb.BlockMeta{}, fmt.Errorf("%s has %d bytes, more than %d", name, st.Size(), maxMeta)
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return tsdb.BlockMeta{}, err
	}
	var meta tsdb.BlockMeta
	if err := json.Unmarshal(raw, &meta); err != nil {
		return tsdb.BlockMeta{}, fmt.Errorf("read %s: %w", name, err)
	}
	if meta.Version != 1 {
		return tsdb.BlockMeta{}, fmt.Errorf("read %s: version %d is unknown", name, meta.Version)
	}
	return meta, nil
}
