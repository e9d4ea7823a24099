package remotewrite

import (
	"encoding/binary"
	"fmt"
)

// exemplarRefs returns the references of an exemplar and its other fields'
// size. Of value and timestamp the tags are the same in both versions.
func (w *v2Writer) exemplarRefs(msg []byte) (refs []uint32, rest int, err error) {
	refs = w.more[:0]
	defer func() { w.more = refs[:0] }()
	fs, f := fields{b: msg}, field{}
	for fs.next(&f) {
		switch {
		case f.number == 1:
			if refs, err = appendRefs(refs, &f); err != nil {
				return nil, 0, err
			}
		case f.number == 2 && f.wireType == wireFixed64:
			rest += 9
		case f.number == 3 && f.wireType == wireVarint:
			rest += 1 + uvarintSize(f.num)
		}
	}
	if fs.bad {
		return nil, 0, malformed("exemplar")
	}
	return refs, rest, nil
}

func (w *v2Writer) exemplar(msg []byte) error {
	refs, rest, err := w.exemplarRefs(msg)
	if err != nil {
		return err
	}
	size, err := w.labelsSize(refs)
	if err != nil {
		return fmt.Errorf("exemplar: %w", err)
	}
	if err := w.room(size + rest + 16); err != nil {
		return err
	}
	w.out = append(w.out, tagExemplar)
	w.out = appendUvarint(w.out, uint64(size+rest))
	for i := 0; i < len(refs); i += 2 {
		name, _ := w.get(refs[i])
		value, _ := w.get(refs[i+1])
		w.out = appendLabel(w.out, name, value)
	}
	fs, f := fields{b: msg}, field{}
	for fs.next(&f) {
		switch {
		case f.number == 2 && f.wireType == wireFixed64:
			w.out = append(w.out, 2<<3|wireFixed64)
			w.out = binary.LittleEndian.AppendUint64(w.out, f.num)
		case f.number == 3 && f.wireType == wireVarint:
			w.out = append(w.out, 3<<3|wireVarint)
			w.out = appendUvarint(w.out, f.num)
		}
	}
	return nil
}

// v2Metadata is the metadata of a series with its references resolved.
type v2Metadata struct {
	kind       uint64
	help, unit []byte
}

func (w *v2Writer) readMetadata(msg []byte) (m v2Metadata, err error) {
	fs, f := fields{b: msg}, field{}
	for fs.next(&f) {
		if f.wireType != wireVarint {
			continue
		}
		ok := true
		switch f.number {
		case 1:
			m.kind = f.num
		case 3, 4:
			var symbol []byte
			symbol, ok = w.get(uint32(min(f.num, 1<<32-1)))
			if f.number == 3 {
				m.help = symbol
			} else {
				m.unit = symbol
			}
		}
		if !ok {
			return m, Errorf(Invalid, "metadata reference %d, but the request has %d symbols", f.num, len(w.spans))
		}
	}
	if fs.bad {
		return m, malformed("metadata")
	}
	return m, nil
}

// metadata writes the metadata of a series, unless it says nothing.
func (w *v2Writer) metadata(msg []byte) error {
	m, err := w.readMetadata(msg)
	if err != nil || m.kind == 0 && len(m.help)+len(m.unit) == 0 {
		return err
	}
	size := 1 + uvarintSize(m.kind) + 1 + uvarintSize(uint64(len(m.help))) + len(m.help) +
		1 + uvarintSize(uint64(len(m.unit))) + len(m.unit)
	if err := w.room(size + 16); err != nil {
		return err
	}
	w.out = append(w.out, tagSeriesMeta)
	w.out = appendUvarint(w.out, uint64(size))
	w.out = append(w.out, 1<<3|wireVarint)
	w.out = appendUvarint(w.out, m.kind)
	w.message(2<<3|wireBytes, m.help)
	w.message(3<<3|wireBytes, m.unit)
	return nil
}
