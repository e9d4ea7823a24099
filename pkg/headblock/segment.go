package headblock

import (
	"bufio"
	"context"
	"errors"
	"io"

	"github.com/prometheus/prometheus/tsdb/wlog"
)

// pageSize is that of the log: a record is cut into fragments that do not cross pages,
// so that a reader can start again at any page.
const pageSize = 32 << 10

// ctxRecords is the number of records between two looks at the context.
const ctxRecords = 1024

// segment is one file of a log. Bytes from size on were written later and are not read.
type segment struct {
	file io.ReaderAt
	name string
	size int64
	// last says that no segment follows: an unreadable end is the end of the log, not
	// a loss.
	last bool
}

// records calls f with each record of the segment. Behind a damaged record it goes on
// at the next page that begins with a record.
func (s segment) records(ctx context.Context, f func(rec []byte) error) (loss Loss, err error) {
	var (
		at      int64 // the end of the last whole record, or the page to start at
		bad     int64 // the length of the damaged place before at
		badFrom int64
		why     error
	)
	for {
		base := at
		r := wlog.NewReader(bufio.NewReaderSize(io.NewSectionReader(s.file, base, s.size-base), pageSize))
		for n := 0; r.Next(); n++ {
			if n%ctxRecords == 0 && ctx.Err() != nil {
				return loss, ctx.Err()
			}
			if bad > 0 {
				loss.note(bad, "%s at byte %d: %v", s.name, badFrom, why)
				bad = 0
			}
			if err := f(r.Record()); err != nil {
				return loss, err
			}
			at = base + r.Offset()
		}
		rerr := r.Err()
		if rerr == nil {
			// The rest has no record: it is empty, or zeros at the end of a page.
			if bad > 0 && !s.last {
				loss.note(bad, "%s at byte %d: %v", s.name, badFrom, why)
			}
			return loss, nil
		}
		next := (at/pageSize + 1) * pageSize
		if bad == 0 {
			badFrom, why = at, rerr
		}
		if next >= s.size {
			if !s.last && (bad > 0 || !torn(rerr)) {
				loss.note(bad+s.size-at, "%s at byte %d: %v", s.name, badFrom, why)
			}
			return loss, nil
		}
		bad += next - at
		at = next
	}
}

// torn reports whether a log ends within a record, as it does when Prometheus was
// killed while it wrote.
func torn(err error) bool {
	var c *wlog.CorruptionErr
	if errors.As(err, &c) {
		err = c.Err
	}
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || err.Error() == "last record is torn"
}
