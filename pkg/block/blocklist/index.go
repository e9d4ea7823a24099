package blocklist

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block"
	"github.com/hindsight-io/hindsight/pkg/reason"
)

// indexName is the object that holds the entries of a poller. The version is part of
// the name: another format has another name. Programs that list blocks ignore it,
// because the name does not begin with a ULID.
const indexName = "hindsight/block-index-v1.ndjson.gz"

// Bounds of an index, in bytes. A larger one is ignored, because it is only a hint: the
// bucket is listed and every meta.json read.
const (
	// maxIndexSize is that of some 200,000 blocks, unpacked.
	maxIndexSize = 256 << 20
	// An index unpacks to ten to twenty times its size. One that unpacks to much more
	// would exhaust memory.
	freeIndexSize = 8 << 20
	maxIndexRatio = 32
	maxIndexLine  = 2 * block.MaxMetaSize
	// A line has one comma in freeCommas at least and then one in every
	// bytesPerComma: short elements take much more memory than text.
	freeCommas    = 256
	bytesPerComma = 12
)

var errIndexFormat = errors.New("malformed block index")

// indexHeader is the first line of an index.
type indexHeader struct {
	Version int       `json:"version"`
	Taken   time.Time `json:"taken"`
	Blocks  int       `json:"blocks"`
}

// indexLine is one block. Exactly one of Meta and Partial is there.
type indexLine struct {
	ID           ulid.ULID               `json:"id"`
	Objects      []indexObject           `json:"objects"`
	Meta         json.RawMessage         `json:"meta,omitempty"`
	Partial      *indexPartial           `json:"partial,omitempty"`
	Deletion     *block.DeletionMark     `json:"deletion,omitempty"`
	NoCompact    *block.NoCompactMark    `json:"no_compact,omitempty"`
	NoDownsample *block.NoDownsampleMark `json:"no_downsample,omitempty"`
	BadMarks     int                     `json:"bad_marks,omitempty"`
}

// indexObject is an object as listed. Modified is in unix nanoseconds, absent
// when the listing had no times.
type indexObject struct {
	Name     string `json:"name"`
	Size     int64  `json:"size"`
	Modified *int64 `json:"modified,omitempty"`
}

type indexPartial struct {
	Reason indexReason `json:"reason"`
	Error  string      `json:"error"`
}

// indexReason is a reason as an index has it. Older versions of this program
// wrote dashes instead of underscores.
type indexReason string

func (r indexReason) current() reason.Reason {
	return reason.Reason(strings.ReplaceAll(string(r), "-", "_"))
}

// encodeIndex writes the entries except those that must be read again.
func encodeIndex(w io.Writer, entries map[ulid.ULID]*entry, taken time.Time) error {
	z := gzip.NewWriter(w)
	buf := bufio.NewWriterSize(z, 64<<10)
	enc := json.NewEncoder(buf)
	n := 0
	for _, e := range entries {
		if e.loaded {
			n++
		}
	}
	if err := enc.Encode(indexHeader{Version: 1, Taken: taken.UTC(), Blocks: n}); err != nil {
		return err
	}
	for id, e := range entries {
		if !e.loaded {
			continue
		}
		line, err := e.line(id)
		if err != nil {
			return err
		}
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	if err := buf.Flush(); err != nil {
		return err
	}
	return z.Close()
}

func (e *entry) line(id ulid.ULID) (indexLine, error) {
	l := indexLine{
		ID: id, Deletion: e.deletion, NoCompact: e.noCompact, NoDownsample: e.noDownsample, BadMarks: e.badMarks,
		Objects: make([]indexObject, len(e.objects)),
	}
	for i, o := range e.objects {
		l.Objects[i] = indexObject{Name: o.rel, Size: o.size}
		if o.timed {
			l.Objects[i].Modified = &o.modified
		}
	}
	if e.meta == nil {
		l.Partial = &indexPartial{Reason: indexReason(e.partial.Reason), Error: e.partial.Err.Error()}
		return l, nil
	}
	data, err := e.meta.MarshalJSON()
	if err != nil {
		return l, fmt.Errorf("encode meta.json of block %s: %w", id, err)
	}
	l.Meta = data
	return l, nil
}

// decodeIndex calls add with the line of every block, which add owns. Decoding meta.json
// costs most of the time, and add may do it in another goroutine.
func decodeIndex(r io.Reader, add func(line []byte) error) (indexHeader, error) {
	var h indexHeader
	packed := &countingReader{r: r}
	z, err := gzip.NewReader(packed)
	if err != nil {
		return h, fmt.Errorf("%w: %w", errIndexFormat, err)
	}
	buf := bufio.NewReaderSize(&unpackedReader{r: z, packed: packed}, 64<<10)
	first, err := readLine(buf)
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(first, &h); err != nil {
		return h, fmt.Errorf("%w: %w", errIndexFormat, err)
	}
	if h.Version != 1 {
		return h, fmt.Errorf("%w: version is %d", errIndexFormat, h.Version)
	}
	for n := 0; ; n++ {
		line, err := readLine(buf)
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0 && n == h.Blocks:
			return h, nil
		case errors.Is(err, io.EOF):
			return h, fmt.Errorf("%w: it has %d blocks instead of %d", errIndexFormat, n, h.Blocks)
		case err != nil:
			return h, err
		}
		if err := add(line); err != nil {
			return h, err
		}
	}
}

// readLine returns a copy of the next line, or io.EOF at the end.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxIndexLine:
			return nil, fmt.Errorf("%w: a line is longer than %d bytes", errIndexFormat, maxIndexLine)
		case err == nil:
			return bytes.TrimSuffix(line, []byte("\n")), nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil, io.EOF
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("%w: it ends in the middle of a line", errIndexFormat)
		default:
			return nil, fmt.Errorf("%w: %w", errIndexFormat, err)
		}
	}
}

// decodeEntry turns a line into an entry. A contradiction in it is an error, with which
// the whole index is ignored.
func decodeEntry(line []byte, intern func(string) string) (ulid.ULID, *entry, error) {
	var l indexLine
	if n := bytes.Count(line, []byte(",")); n > freeCommas+len(line)/bytesPerComma {
		return ulid.ULID{}, nil, fmt.Errorf("%w: a line of %d bytes has %d elements", errIndexFormat, len(line), n)
	}
	if err := json.Unmarshal(line, &l); err != nil {
		return ulid.ULID{}, nil, fmt.Errorf("%w: %w", errIndexFormat, err)
	}
	e := &entry{
		deletion: l.Deletion, noCompact: l.NoCompact, noDownsample: l.NoDownsample, badMarks: l.BadMarks,
		objects: make([]object, len(l.Objects)),
	}
	for i, o := range l.Objects {
		e.objects[i] = object{rel: intern(o.Name), size: o.Size}
		if o.Modified != nil {
			e.objects[i].modified, e.objects[i].timed = *o.Modified, true
		}
	}
	switch {
	case (l.Partial == nil) == (len(l.Meta) == 0):
		return l.ID, nil, fmt.Errorf("%w: block %s is both or neither complete and partial", errIndexFormat, l.ID)
	case l.Partial != nil:
		e.partial = &block.CorruptError{ID: l.ID, Reason: l.Partial.Reason.current(), Err: errors.New(l.Partial.Error)}
		e.logged = e.partial.Error()
	default:
		m, err := block.ParseMeta(l.Meta)
		if err != nil {
			return l.ID, nil, fmt.Errorf("%w: block %s: %w", errIndexFormat, l.ID, err)
		}
		if m.ULID != l.ID {
			return l.ID, nil, fmt.Errorf("%w: block %s has meta.json of %s", errIndexFormat, l.ID, m.ULID)
		}
		e.meta = m
	}
	if err := l.checkMarks(); err != nil {
		return l.ID, nil, fmt.Errorf("%w: %w", errIndexFormat, err)
	}
	e.measure()
	e.loaded = true
	return l.ID, e, nil
}

// checkMarks checks the marks as block.ReadMark checks their objects.
func (l *indexLine) checkMarks() error {
	var errs []error
	if l.Deletion != nil {
		errs = append(errs, block.CheckMark(l.ID, l.Deletion))
	}
	if l.NoCompact != nil && l.NoCompact.Reason != markUnreadable {
		errs = append(errs, block.CheckMark(l.ID, l.NoCompact))
	}
	if l.NoDownsample != nil && l.NoDownsample.Reason != markUnreadable {
		errs = append(errs, block.CheckMark(l.ID, l.NoDownsample))
	}
	return errors.Join(errs...)
}

// countingReader counts the bytes that it reads.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// unpackedReader fails once it has returned more bytes than an index may have, in total
// or in proportion to the packed bytes.
type unpackedReader struct {
	r      io.Reader
	packed *countingReader
	n      int64
}

func (u *unpackedReader) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	u.n += int64(n)
	if u.n > min(maxIndexSize, freeIndexSize+maxIndexRatio*u.packed.n) {
		return 0, fmt.Errorf("%d packed bytes unpack to more than %d", u.packed.n, u.n)
	}
	return n, err
}
