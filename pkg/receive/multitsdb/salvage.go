package multitsdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
)

// The TSDB cuts its write-ahead log off at the first damaged byte and throws
// away everything behind it. The functions here run before it is opened: they
// take damaged records out, so that only these are lost. The format is that of
// Prometheus: segments of pages of 32 KiB; fragments of records, each with type,
// length and checksum, that never cross a page.
const (
	walPage       = 32 << 10
	walHeader     = 7
	walTypeMask   = 7
	walCompressed = 3 << 3 // the bits that name a compression

	walPadding = 0
	walFull    = 1
	walFirst   = 2
	walMiddle  = 3
	walLast    = 4
)

// lateLog is the directory of the log of late samples.
const lateLog = "wbl"

// damagedDir is where the damaged originals go, below a tenant's directory.
const damagedDir = "damaged"

// salvageLogs repairs all logs of a tenant and returns how many records were
// damaged.
func salvageLogs(dir string) (damaged int, err error) {
	var paths []string
	for _, log := range []string{"wal", lateLog} {
		err := filepath.WalkDir(filepath.Join(dir, log), func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if _, numErr := strconv.Atoi(filepath.Base(path)); err == nil && numErr == nil && !e.IsDir() {
				paths = append(paths, path)
			}
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("look through the write-ahead log: %w", err)
		}
	}
	for _, path := range paths {
		n, err := salvageSegment(dir, path)
		if err != nil {
			return damaged, fmt.Errorf("repair segment %s of the write-ahead log: %w", path, err)
		}
		damaged += n
	}
	return damaged, nil
}

// salvageSegment replaces a segment that is damaged, or has markers, by one with
// its other records. A damaged original is set aside.
func salvageSegment(dir, path string) (damaged int, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	records, damaged := scanSegment(data)
	kept := records
	if filepath.Base(filepath.Dir(path)) == lateLog {
		unreadable := 0
		kept, unreadable = withoutMarkers(records)
		damaged += unreadable
	}
	if damaged == 0 && len(kept) == len(records) {
		return 0, nil
	}
	if damaged > 0 {
		if err := setAside(dir, path, data); err != nil {
			return 0, err
		}
	}
	tmp := path + ".salvage"
	if err := writeSynced(tmp, encodeSegment(kept)); err != nil {
		return 0, err
	}
	return damaged, os.Rename(tmp, path)
}

// setAside keeps the content of a damaged segment.
func setAside(dir, path string, data []byte) error {
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	aside := filepath.Join(dir, damagedDir, strings.ReplaceAll(rel, string(filepath.Separator), "-"))
	if err := os.MkdirAll(filepath.Dir(aside), 0o750); err != nil {
		return err
	}
	return os.WriteFile(aside, data, 0o640)
}

func writeSynced(path string, b []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// walRecord is a whole record, still compressed.
type walRecord struct {
	compression byte
	parts       [][]byte
}

// segmentScan reads the fragments of a segment one after the other.
type segmentScan struct {
	data    []byte
	at      int
	open    *walRecord // a record whose last fragment has not come yet
	records []walRecord
	damaged int
	// lost says that the last fragment was bad: what follows belongs to the
	// same damage until a good one is found.
	lost bool
}

// scanSegment returns the good records of a segment and how many were damaged.
func scanSegment(data []byte) ([]walRecord, int) {
	s := segmentScan{data: data}
	for s.at < len(data) {
		s.step()
	}
	if s.open != nil {
		s.damage()
	}
	return s.records, s.damaged
}

func (s *segmentScan) damage() {
	if !s.lost {
		s.damaged++
	}
	s.open, s.lost = nil, true
}

// step reads one fragment, or the padding of a page.
func (s *segmentScan) step() {
	end := min((s.at/walPage+1)*walPage, len(s.data))
	typ := s.data[s.at] & walTypeMask
	if s.data[s.at] == walPadding {
		for _, b := range s.data[s.at:end] {
			if b != 0 {
				s.damage()
				break
			}
		}
		s.at = end
		return
	}
	if s.at+walHeader > end || typ > walLast || typ == walPadding {
		s.damage()
		s.at = end
		return
	}
	length := int(binary.BigEndian.Uint16(s.data[s.at+1:]))
	from := s.at + walHeader
	if from+length > end {
		s.damage()
		s.at = end
		return
	}
	part := s.data[from : from+length]
	if crc32.Checksum(part, crc32.MakeTable(crc32.Castagnoli)) != binary.BigEndian.Uint32(s.data[s.at+3:]) {
		// The length may be right: then the next fragment is good. If it is
		// not, the next page is where the thread can be found again.
		if s.lost {
			s.at = end
		} else {
			s.at = from + length
		}
		s.damage()
		return
	}
	s.fragment(typ, s.data[s.at]&walCompressed, part)
	s.at = from + length
}

func (s *segmentScan) fragment(typ, compression byte, part []byte) {
	begins := typ == walFull || typ == walFirst
	if begins != (s.open == nil) {
		// Fragments of a record whose beginning, or end, was lost.
		if s.open != nil {
			s.damage()
		} else if !s.lost {
			s.damage()
			return
		}
		if !begins {
			return
		}
	}
	s.lost = false
	if begins {
		s.open = &walRecord{compression: compression}
	}
	s.open.parts = append(s.open.parts, part)
	if typ == walFull || typ == walLast {
		s.records = append(s.records, *s.open)
		s.open = nil
	}
}

// encodeSegment writes records as a segment of whole pages.
func encodeSegment(records []walRecord) []byte {
	var out []byte
	pad := func() { out = append(out, make([]byte, (walPage-len(out)%walPage)%walPage)...) }
	for _, r := range records {
		var rest []byte
		for _, p := range r.parts {
			rest = append(rest, p...)
		}
		for first := true; first || len(rest) > 0; first = false {
			if walPage-len(out)%walPage <= walHeader {
				pad()
			}
			n := min(len(rest), walPage-len(out)%walPage-walHeader)
			typ := byte(walMiddle)
			switch {
			case first && n == len(rest):
				typ = walFull
			case first:
				typ = walFirst
			case n == len(rest):
				typ = walLast
			}
			out = append(out, typ|r.compression)
			out = binary.BigEndian.AppendUint16(out, uint16(n))
			out = binary.BigEndian.AppendUint32(out, crc32.Checksum(rest[:n], crc32.MakeTable(crc32.Castagnoli)))
			out = append(out, rest[:n]...)
			rest = rest[n:]
		}
	}
	pad()
	return out
}

// setBadBlocksAside moves blocks that cannot be opened out of the way, so that
// the rest of the tenant can be. It returns their names.
func setBadBlocksAside(dir string) (moved []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil || !e.IsDir() {
			continue
		}
		b, openErr := tsdb.OpenBlock(nil, filepath.Join(dir, e.Name()), nil, nil)
		if openErr == nil {
			if err := b.Close(); err != nil {
				return moved, err
			}
			continue
		}
		if transient(openErr) {
			return moved, openErr
		}
		if err := os.MkdirAll(filepath.Join(dir, damagedDir), 0o750); err != nil {
			return moved, err
		}
		if err := os.Rename(filepath.Join(dir, e.Name()), filepath.Join(dir, damagedDir, e.Name())); err != nil {
			return moved, err
		}
		moved = append(moved, fmt.Sprintf("%s (%s)", e.Name(), openErr))
	}
	return moved, nil
}
