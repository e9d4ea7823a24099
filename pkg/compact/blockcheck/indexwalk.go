package blockcheck

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/encoding"
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/tsdb/index"
)

// recentSymbols is the number of symbols that are kept in memory.
const recentSymbols = 4096

// indexFile is a local index, read with the decoders of Prometheus. Its own reader walks to
// each symbol from one of 32; here the symbols of the series before are kept, which most
// series have again.
type indexFile struct {
	file    *fileutil.MmapFile
	reader  *index.Reader
	symbols *index.Symbols
	recent  []symbol
}

// symbol is a symbol with its number plus one.
type symbol struct {
	number uint64
	text   string
}

// openIndex maps an index into memory. Strings of it are valid until close.
func openIndex(path string) (_ *indexFile, err error) {
	file, err := fileutil.OpenMmapFile(path)
	if err != nil {
		return nil, err
	}
	x := &indexFile{file: file, recent: make([]symbol, recentSymbols)}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.close())
		}
	}()
	b := mapped(file.Bytes())
	toc, err := index.NewTOCFromByteSlice(b)
	if err != nil {
		return nil, err
	}
	if x.reader, err = index.NewReader(b, index.DecodePostingsRaw); err != nil {
		return nil, err
	}
	if x.symbols, err = index.NewSymbols(b, x.reader.Version(), int(toc.Symbols)); err != nil {
		return nil, err
	}
	return x, nil
}

func (x *indexFile) close() error { return x.file.Close() }

// mapped is index.ByteSlice over memory.
type mapped []byte

func (b mapped) Len() int                    { return len(b) }
func (b mapped) Range(start, end int) []byte { return b[start:end] }

// symbol returns the symbol with a number.
func (x *indexFile) symbol(_ context.Context, n uint32) (string, error) {
	s := &x.recent[n%recentSymbols]
	if s.number == uint64(n)+1 {
		return s.text, nil
	}
	text, err := x.symbols.Lookup(n)
	if err == nil {
		*s = symbol{uint64(n) + 1, text}
	}
	return text, err
}

// walk calls f for each series, with the hash of its labels.
func (x *indexFile) walk(ctx context.Context, f func(labels.Labels, uint64, []chunks.Meta) error) error {
	all, err := x.reader.Postings(ctx, "", "")
	if err != nil {
		return fmt.Errorf("list the series of the new index: %w", err)
	}
	var builder labels.ScratchBuilder
	var chks []chunks.Meta
	dec := index.Decoder{LookupSymbol: x.symbol}
	b, table := mapped(x.file.Bytes()), crc32.MakeTable(crc32.Castagnoli)
	for n := 0; all.Next(); n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		entry := encoding.NewDecbufUvarintAt(b, int(uint64(all.At())*seriesUnit), table)
		err := entry.Err()
		if err == nil {
			err = dec.Series(entry.Get(), &builder, &chks)
		}
		if err != nil {
			return fmt.Errorf("read a series of the new index: %w", err)
		}
		l := builder.Labels()
		if err := f(l, hashOf(l), chks); err != nil {
			return err
		}
	}
	return all.Err()
}

// seriesUnit is the unit of references of series in an index that a merge writes.
const seriesUnit = 16

// name lists series of a part.
func (x *indexFile) name(ctx context.Context, part int) string {
	names := &examples{part: part}
	err := x.walk(ctx, func(l labels.Labels, series uint64, _ []chunks.Meta) error {
		names.add(series, l)
		return nil
	})
	if err != nil {
		return fmt.Sprintf("%s (%v)", names, err)
	}
	return names.String()
}
