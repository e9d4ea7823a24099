package remotewrite

import (
	"encoding/binary"
	"fmt"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
)

// exemplarRefs returns the references of an exemplar and its other fields'
// size. Of value and timestamp the tags are the same in both versions.
func (w *v2Writer) exemplarRefs(msg []byte) (refs []uint32, rest int, err error) {
	refs = w.more[:0]
	defer func() { w.more = refs[:0] }()
	fs, f := protoscan.Fields{B: msg}, protoscan.Field{}
	for fs.Next(&f) {
		switch {
		case f.Number() == 1:
			if refs, err = appendRefs(refs, &f); err != nil {
				return nil, 0, err
			}
		case f.Tag == 2<<3|protoscan.Fixed64:
			rest += 9
		case f.Tag == 3<<3|protoscan.Varint:
			rest += 1 + protoscan.UvarintSize(f.Num)
		}
	}
	if fs.Err() != nil {
		return nil, 0, malformed("exemplar")
	}
	return refs, rest, nil
}

// exemplar writes an exemplar with its symbols resolved. It fails when the exemplar
// cannot be read, refers to symbols that the request lacks, or makes the result
// larger than the limit.
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
	fs, f := protoscan.Fields{B: msg}, protoscan.Field{}
	for fs.Next(&f) {
		switch f.Tag {
		case 2<<3 | protoscan.Fixed64:
			w.out = append(w.out, 2<<3|protoscan.Fixed64)
			w.out = binary.LittleEndian.AppendUint64(w.out, f.Num)
		case 3<<3 | protoscan.Varint:
			w.out = append(w.out, 3<<3|protoscan.Varint)
			w.out = appendUvarint(w.out, f.Num)
		}
	}
	return nil
}

// v2Metadata is the metadata of a series with its references resolved.
type v2Metadata struct {
	kind       uint64
	help, unit []byte
}

// readMetadata reads the metadata of a series. Help and unit share the memory of the
// request. It fails when a reference has no symbol.
func (w *v2Writer) readMetadata(msg []byte) (m v2Metadata, err error) {
	fs, f := protoscan.Fields{B: msg}, protoscan.Field{}
	for fs.Next(&f) {
		if f.Type() != protoscan.Varint {
			continue
		}
		ok := true
		switch f.Number() {
		case 1:
			m.kind = f.Num
		case 3, 4:
			var symbol []byte
			symbol, ok = w.get(uint32(min(f.Num, 1<<32-1)))
			if f.Number() == 3 {
				m.help = symbol
			} else {
				m.unit = symbol
			}
		}
		if !ok {
			return m, Errorf(Invalid, "metadata reference %d, but the request has %d symbols", f.Num, len(w.spans))
		}
	}
	if fs.Err() != nil {
		return m, malformed("metadata")
	}
	return m, nil
}

// metadata writes the metadata of a series, unless it is empty.
func (w *v2Writer) metadata(msg []byte) error {
	m, err := w.readMetadata(msg)
	if err != nil || m.kind == 0 && len(m.help)+len(m.unit) == 0 {
		return err
	}
	size := 1 + protoscan.UvarintSize(m.kind) + 1 + protoscan.UvarintSize(uint64(len(m.help))) + len(m.help) +
		1 + protoscan.UvarintSize(uint64(len(m.unit))) + len(m.unit)
	if err := w.room(size + 16); err != nil {
		return err
	}
	w.out = append(w.out, tagSeriesMeta)
	w.out = appendUvarint(w.out, uint64(size))
	w.out = append(w.out, 1<<3|protoscan.Varint)
	w.out = appendUvarint(w.out, m.kind)
	w.message(2<<3|protoscan.Bytes, m.help)
	w.message(3<<3|protoscan.Bytes, m.unit)
	return nil
}
