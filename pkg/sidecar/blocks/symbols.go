package blocks

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/encoding"
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/tsdb/index"
)

// indexFile is the index of a block, mapped once more for the series alone. The reader
// of the TSDB decodes about sixteen symbols to find one, for each label of each
// series, which is a third of the time of reading a day of blocks; most labels of a
// selection repeat.
type indexFile struct {
	file    *fileutil.MmapFile
	bytes   indexBytes
	symbols *index.Symbols
}

// indexBytes implements index.ByteSlice.
type indexBytes []byte

func (b indexBytes) Len() int                    { return len(b) }
func (b indexBytes) Range(start, end int) []byte { return b[start:end] }

// openIndex opens the index of a block; nil if it has the old format, which the TSDB
// reads.
func openIndex(dir string) (*indexFile, error) {
	f, err := fileutil.OpenMmapFile(filepath.Join(dir, "index"))
	if err != nil {
		return nil, fmt.Errorf("map index: %w", err)
	}
	x := &indexFile{file: f, bytes: f.Bytes()}
	if len(x.bytes) < index.HeaderLen || x.bytes[4] != index.FormatV2 {
		return nil, f.Close()
	}
	toc, err := index.NewTOCFromByteSlice(x.bytes)
	if err == nil {
		x.symbols, err = index.NewSymbols(x.bytes, index.FormatV2, int(toc.Symbols))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read symbols: %w", err), f.Close())
	}
	return x, nil
}

// seriesAlign is the unit of the references of series in the format V2, in bytes.
const seriesAlign = 16

// cachedBlock is a block whose index keeps symbols for the time of a querier.
type cachedBlock struct {
	*tsdb.Block
	file *indexFile
}

// Index implements tsdb.BlockReader.
func (b cachedBlock) Index() (tsdb.IndexReader, error) {
	r, err := b.Block.Index()
	if err != nil || b.file == nil {
		return r, err
	}
	c := &cachedIndex{IndexReader: r, file: b.file, table: crc32.MakeTable(crc32.Castagnoli)}
	c.dec.LookupSymbol = c.lookup
	return c, nil
}

// cachedIndex is used by one querier, that is by one goroutine at a time.
type cachedIndex struct {
	tsdb.IndexReader
	file  *indexFile
	table *crc32.Table
	dec   index.Decoder
	cache [symbolSlots]cachedSymbol
}

// symbolSlots is the number of symbols that a querier keeps, a power of two.
const symbolSlots = 1024

// cachedSymbol is a symbol and its reference plus one; 0 is an unused slot.
type cachedSymbol struct {
	ref  uint32
	text string
}

func (c *cachedIndex) lookup(_ context.Context, ref uint32) (string, error) {
	slot := &c.cache[ref%symbolSlots]
	if slot.ref == ref+1 {
		return slot.text, nil
	}
	text, err := c.file.symbols.Lookup(ref)
	if err == nil {
		*slot = cachedSymbol{ref + 1, text}
	}
	return text, err
}

// Series implements tsdb.IndexReader.
func (c *cachedIndex) Series(ref storage.SeriesRef, builder *labels.ScratchBuilder, chks *[]chunks.Meta) error {
	d := encoding.NewDecbufUvarintAt(c.file.bytes, int(ref*seriesAlign), c.table)
	if d.Err() != nil {
		return fmt.Errorf("read series %d: %w", ref, d.Err())
	}
	builder.Reset()
	if err := c.dec.Series(d.Get(), builder, chks); err != nil {
		return fmt.Errorf("read series %d: %w", ref, err)
	}
	return nil
}
