package walrepair

import (
	"encoding/binary"
	"hash/crc32"
)

// The format of segments is that of Prometheus: pages of 32 KiB; fragments of
// records, each with type, length and checksum, that never cross a page.
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

// walRecord is a whole record, still compressed.
type walRecord struct {
	compression byte
	parts       [][]byte
}

// segmentScan reads the fragments of a segment one after the other.
type segmentScan struct {
	data    []byte
	at      int
	open    *walRecord // a record whose last fragment has not been read yet
	records []walRecord
	damaged int
	// lost is set after a bad fragment: all up to the next good one belongs to
	// the same damage.
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

// damage counts a damage, unless it continues the one before.
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
		// If the length is right, the next fragment is good. If it is not, the
		// fragments of the next page are.
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

// fragment adds a good fragment to its record.
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
