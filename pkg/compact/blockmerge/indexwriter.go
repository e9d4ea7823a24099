package blockmerge

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/hindsight-io/hindsight/pkg/vfs"
)

// errTooLarge says that an index would exceed the limits of its format.
var errTooLarge = errors.New("index would exceed the limits of its format")

const (
	// seriesAlign is the unit of references of series in the second version of the
	// format, which is written.
	seriesAlign = 16
	writeBuffer = 256 << 10
)

// Limits are those of the index format. Tests make them smaller.
type Limits struct {
	// Index bounds the offsets of series, and so the index.
	Index int64
	// Section bounds the length of the symbols and of the table of postings, which are
	// numbers of 32 bits.
	Section int64
}

// FormatLimits are the limits of the second version of the format.
func FormatLimits() Limits {
	return Limits{Index: seriesAlign * math.MaxUint32, Section: math.MaxUint32}
}

// indexWriter writes an index of the second version in the order of the format:
// symbols, series, postings, table of postings, table of contents. The memory that it
// needs does not depend on the number of series.
type indexWriter struct {
	fs     vfs.FS
	f      vfs.File
	w      *bufio.Writer
	pos    int64
	limits Limits
	toc    index.TOC

	symbolCount uint32
	mapped      *fileutil.MmapFile
	symbols     *index.Symbols

	postings      *postings
	seriesMaxSize int64
	body, head    []byte
}

// newIndexWriter creates the file. Spooled postings lie beside it.
func newIndexWriter(fsys vfs.FS, path string, limits Limits, postingsMemory int) (*indexWriter, error) {
	f, err := fsys.Create(path)
	if err != nil {
		return nil, err
	}
	w := &indexWriter{
		fs: fsys, f: f, w: bufio.NewWriterSize(f, writeBuffer), limits: limits,
		postings: newPostings(fsys, path+".postings", postingsMemory),
	}
	w.head = binary.BigEndian.AppendUint32(w.head, index.MagicIndex)
	w.head = append(w.head, index.FormatV2)
	w.toc.Symbols = index.HeaderLen
	w.head = append(w.head, "sizenumb"...) // set by endSymbols
	return w, w.write(w.head)
}

// Close removes temporary files and closes the index.
func (w *indexWriter) Close() error {
	var err error
	if w.mapped != nil {
		err = w.mapped.Close()
	}
	return errors.Join(err, w.postings.Close(), w.f.Close())
}

func (w *indexWriter) write(b []byte) error {
	n, err := w.w.Write(b)
	w.pos += int64(n)
	if w.pos > w.limits.Index {
		return fmt.Errorf("%w: it has more than %d bytes", errTooLarge, w.limits.Index)
	}
	return err
}

// align writes zeros up to a multiple of n.
func (w *indexWriter) align(n int64) error {
	if rest := w.pos % n; rest > 0 {
		return w.write(make([]byte, n-rest))
	}
	return nil
}

// addSymbol adds the next symbol in order.
func (w *indexWriter) addSymbol(s []byte) error {
	w.head = append(binary.AppendUvarint(w.head[:0], uint64(len(s))), s...)
	w.symbolCount++
	return w.write(w.head)
}

// endSymbols completes the symbols, so that they can be looked up.
func (w *indexWriter) endSymbols() error {
	size := w.pos - int64(w.toc.Symbols) - 4
	if size > w.limits.Section {
		return fmt.Errorf("%w: its symbols have more than %d bytes", errTooLarge, w.limits.Section)
	}
	w.head = binary.BigEndian.AppendUint32(w.head[:0], uint32(size))
	w.head = binary.BigEndian.AppendUint32(w.head, w.symbolCount)
	// The checksum begins with the number of symbols, which is known only now.
	sum := crc32.New(castagnoli())
	if err := w.flush(); err != nil {
		return err
	}
	if _, err := w.f.WriteAt(w.head, int64(w.toc.Symbols)); err != nil {
		return err
	}
	section := io.NewSectionReader(w.f, int64(w.toc.Symbols)+4, size)
	if _, err := io.CopyBuffer(sum, section, make([]byte, writeBuffer)); err != nil {
		return err
	}
	if err := w.write(binary.BigEndian.AppendUint32(nil, sum.Sum32())); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	var err error
	if w.mapped, err = fileutil.OpenMmapFile(w.f.Name()); err != nil {
		return err
	}
	w.symbols, err = index.NewSymbols(bytesOf(w.mapped.Bytes()), index.FormatV2, int(w.toc.Symbols))
	w.toc.Series = uint64(w.pos)
	return err
}

func (w *indexWriter) flush() error { return w.w.Flush() }

// addSeries adds a series, which must come after the ones before it, with its chunks in
// order.
func (w *indexWriter) addSeries(labels []uint32, chks []outChunk) error {
	if err := w.align(seriesAlign); err != nil {
		return err
	}
	b := binary.AppendUvarint(w.body[:0], uint64(len(labels)/2))
	for _, l := range labels {
		b = binary.AppendUvarint(b, uint64(l))
	}
	b = binary.AppendUvarint(b, uint64(len(chks)))
	for i := range chks {
		c := &chks[i]
		if i == 0 {
			b = binary.AppendVarint(b, c.mint)
			b = binary.AppendUvarint(b, uint64(c.maxt-c.mint))
			b = binary.AppendUvarint(b, c.ref)
			continue
		}
		last := &chks[i-1]
		if c.mint <= last.maxt {
			return fmt.Errorf("chunk from %d begins before the one before it ends at %d", c.mint, last.maxt)
		}
		b = binary.AppendUvarint(b, uint64(c.mint-last.maxt))
		b = binary.AppendUvarint(b, uint64(c.maxt-c.mint))
		b = binary.AppendVarint(b, int64(c.ref)-int64(last.ref))
	}
	w.head = binary.AppendUvarint(w.head[:0], uint64(len(b)))
	w.body = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
	at := uint32(w.pos / seriesAlign)
	if err := w.write(w.head); err != nil {
		return err
	}
	if err := w.write(w.body); err != nil {
		return err
	}
	w.seriesMaxSize = max(w.seriesMaxSize, int64(len(w.head)+len(w.body)))
	return w.postings.add(labels, at)
}

// finish writes the postings and the tables, and syncs nothing: a work directory is
// empty after a crash.
func (w *indexWriter) finish() (err error) {
	w.toc.LabelIndices = uint64(w.pos)
	if err := w.align(4); err != nil {
		return err
	}
	w.toc.Postings = w.toc.LabelIndices
	table, err := newTable(w.fs, w.f.Name()+".table")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, table.Close()) }()
	if err := w.postings.each(func(name, value uint32, all bool, refs *refs) error {
		if err := w.align(4); err != nil {
			return err
		}
		if err := table.add(w, name, value, all); err != nil {
			return err
		}
		return w.writePostings(refs)
	}); err != nil {
		return err
	}
	w.toc.LabelIndicesTable, w.toc.PostingsTable = uint64(w.pos), uint64(w.pos)
	if err := table.copyTo(w); err != nil {
		return err
	}
	b := w.head[:0]
	for _, off := range []uint64{w.toc.Symbols, w.toc.Series, w.toc.LabelIndices, w.toc.LabelIndicesTable, w.toc.Postings, w.toc.PostingsTable} {
		b = binary.BigEndian.AppendUint64(b, off)
	}
	w.head = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
	if err := w.write(w.head); err != nil {
		return err
	}
	return w.flush()
}

// writePostings writes one list: length, number, references, checksum.
func (w *indexWriter) writePostings(r *refs) error {
	if size := 4 + 4*int64(r.count); size > math.MaxUint32 {
		return fmt.Errorf("%w: a label has %d series", errTooLarge, r.count)
	}
	b := binary.BigEndian.AppendUint32(w.head[:0], uint32(4+4*r.count))
	b = binary.BigEndian.AppendUint32(b, uint32(r.count))
	sum := crc32.Update(0, castagnoli(), b[4:])
	if err := w.write(b); err != nil {
		return err
	}
	for {
		refs, err := r.next()
		if err != nil {
			return err
		}
		if len(refs) == 0 {
			break
		}
		b = b[:0]
		for _, ref := range refs {
			b = binary.BigEndian.AppendUint32(b, ref)
		}
		sum = crc32.Update(sum, castagnoli(), b)
		if err := w.write(b); err != nil {
			return err
		}
	}
	w.head = b
	return w.write(binary.BigEndian.AppendUint32(w.body[:0], sum))
}

// table is the table of postings while it is made.
type table struct {
	fs    vfs.FS
	f     vfs.File
	w     *bufio.Writer
	size  int64
	count uint32
	buf   []byte
	names map[uint32]string
}

func newTable(fsys vfs.FS, path string) (*table, error) {
	f, err := fsys.Create(path)
	if err != nil {
		return nil, err
	}
	return &table{fs: fsys, f: f, w: bufio.NewWriterSize(f, writeBuffer), names: map[uint32]string{}}, nil
}

// Close removes the temporary file.
func (t *table) Close() error { return errors.Join(t.f.Close(), t.fs.Remove(t.f.Name())) }

// add adds the list at the current position of the index.
func (t *table) add(w *indexWriter, name, value uint32, all bool) error {
	var n, v string
	if !all {
		var err error
		var ok bool
		if n, ok = t.names[name]; !ok {
			if n, err = w.symbols.Lookup(name); err != nil {
				return err
			}
			t.names[name] = n
		}
		if v, err = w.symbols.Lookup(value); err != nil {
			return err
		}
	}
	b := append(t.buf[:0], 2)
	b = append(binary.AppendUvarint(b, uint64(len(n))), n...)
	b = append(binary.AppendUvarint(b, uint64(len(v))), v...)
	t.buf = binary.AppendUvarint(b, uint64(w.pos))
	t.count++
	t.size += int64(len(t.buf))
	if t.size+4 > w.limits.Section {
		return fmt.Errorf("%w: its table of postings has more than %d bytes", errTooLarge, w.limits.Section)
	}
	_, err := t.w.Write(t.buf)
	return err
}

// copyTo writes the table into the index.
func (t *table) copyTo(w *indexWriter) error {
	if err := t.w.Flush(); err != nil {
		return err
	}
	b := binary.BigEndian.AppendUint32(t.buf[:0], uint32(t.size+4))
	b = binary.BigEndian.AppendUint32(b, t.count)
	sum := crc32.Update(0, castagnoli(), b[4:])
	if err := w.write(b); err != nil {
		return err
	}
	if _, err := t.f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	buf := make([]byte, min(writeBuffer, max(t.size, 1)))
	for left := t.size; left > 0; left -= int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), left)]
		if _, err := io.ReadFull(t.f, buf); err != nil {
			return err
		}
		sum = crc32.Update(sum, castagnoli(), buf)
		if err := w.write(buf); err != nil {
			return err
		}
	}
	return w.write(binary.BigEndian.AppendUint32(b[:0], sum))
}
