package headerbundle

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/s2"
	"github.com/oklog/ulid/v2"

	"github.com/hindsight-io/hindsight/pkg/block/indexheader"
	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// dir is the directory of bundles. Its name is no ULID, so that programs that list
// blocks ignore it.
const dir = "hindsight/index-headers-v1"

const (
	magic      = "HSHB"
	version    = 1
	prefixSize = 16
	entrySize  = 56
	crcSize    = 4

	// maxEntries, maxBundle and maxHeader bound what a reader accepts: headers of a
	// bundle, bytes of a bundle, and bytes of one unpacked header.
	maxEntries = 4096
	maxBundle  = 256 << 20
	maxHeader  = 256 << 20
	// maxBundles is the number of bundles that a reader looks at.
	maxBundles = 10_000
)

// errCorrupt marks bundles that contradict their format.
var errCorrupt = errors.New("corrupt bundle of index headers")

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// entry is the header of one block in a bundle.
type entry struct {
	id        ulid.ULID
	off       int64 // from the start of the bundle
	stored    int64 // bytes, compressed
	size      int64 // bytes of the header
	indexSize int64 // bytes of the index that it describes
	crc       uint32
}

// object is a bundle, as its name tells it.
type object struct {
	name      string
	directory int64 // bytes before the first header
	size      int64
}

// parseName reads the name of a bundle: hash-directory-size.
func parseName(name string) (object, bool) {
	rel, ok := strings.CutPrefix(name, dir+"/")
	parts := strings.Split(rel, "-")
	if !ok || len(parts) != 3 || len(parts[0]) != 32 {
		return object{}, false
	}
	directory, err := strconv.ParseInt(parts[1], 10, 64)
	size, err2 := strconv.ParseInt(parts[2], 10, 64)
	most := int64(prefixSize + maxEntries*entrySize + crcSize)
	if err != nil || err2 != nil || directory < prefixSize+crcSize || directory > most || size < directory || size > maxBundle {
		return object{}, false
	}
	return object{name: name, directory: directory, size: size}, true
}

// packed is a header as a bundle stores it.
type packed struct {
	entry
	b []byte
}

func pack(id ulid.ULID, h *indexheader.Header) packed {
	b := s2.EncodeBetter(nil, h.Bytes())
	return packed{b: b, entry: entry{
		id: id, stored: int64(len(b)), size: h.Size(), indexSize: h.IndexSize(), crc: crc32.Checksum(b, castagnoli()),
	}}
}

// unpack checks the bytes of an entry and returns its header.
func unpack(e entry, b []byte) (*indexheader.Header, error) {
	if crc32.Checksum(b, castagnoli()) != e.crc {
		return nil, fmt.Errorf("%w: header of block %s has a wrong checksum", errCorrupt, e.id)
	}
	if n, err := s2.DecodedLen(b); err != nil || int64(n) != e.size || e.size > maxHeader {
		return nil, fmt.Errorf("%w: header of block %s does not unpack to %d bytes", errCorrupt, e.id, e.size)
	}
	plain, err := s2.Decode(nil, b)
	if err != nil {
		return nil, fmt.Errorf("%w: header of block %s: %w", errCorrupt, e.id, err)
	}
	h, err := indexheader.Parse(plain)
	if err != nil {
		return nil, fmt.Errorf("header of block %s in a bundle: %w", e.id, err)
	}
	if h.IndexSize() != e.indexSize {
		return nil, fmt.Errorf("%w: header of block %s is of another index", errCorrupt, e.id)
	}
	return h, nil
}

// encode makes a bundle and its name, which its content decides.
func encode(headers []packed) (name string, b []byte) {
	le := binary.LittleEndian
	directory := int64(prefixSize + len(headers)*entrySize + crcSize)
	b = append(b, magic...)
	b = append(b, version, 0, 0, 0)
	b = le.AppendUint32(b, uint32(len(headers)))
	b = le.AppendUint32(b, 0)
	off := directory
	for _, h := range headers {
		b = append(b, h.id[:]...)
		for _, v := range []int64{off, h.stored, h.size, h.indexSize} {
			b = le.AppendUint64(b, uint64(v))
		}
		b = le.AppendUint32(b, h.crc)
		b = le.AppendUint32(b, 0)
		off += h.stored
	}
	b = le.AppendUint32(b, crc32.Checksum(b, castagnoli()))
	sum := sha256.Sum256(b) // with the checksums of all headers
	for _, h := range headers {
		b = append(b, h.b...)
	}
	return fmt.Sprintf("%s/%s-%d-%d", dir, hex.EncodeToString(sum[:16]), directory, len(b)), b
}

// decodeDirectory reads the entries of a bundle. They lie one behind the other and fill
// the bundle.
func decodeDirectory(o object, b []byte) ([]entry, error) {
	bad := func(detail string) error { return fmt.Errorf("%w: %s: %s", errCorrupt, o.name, detail) }
	le := binary.LittleEndian
	if int64(len(b)) != o.directory || string(b[:4]) != magic || b[4] != version {
		return nil, bad("unknown format")
	}
	body := b[:len(b)-crcSize]
	if crc32.Checksum(body, castagnoli()) != le.Uint32(b[len(body):]) {
		return nil, bad("wrong checksum")
	}
	n := int64(le.Uint32(b[8:]))
	if n > maxEntries || prefixSize+n*entrySize+crcSize != o.directory {
		return nil, bad("directory has another length")
	}
	out, off := make([]entry, 0, n), o.directory
	for rest := body[prefixSize:]; len(rest) > 0; rest = rest[entrySize:] {
		e := entry{
			off: int64(le.Uint64(rest[16:])), stored: int64(le.Uint64(rest[24:])),
			size: int64(le.Uint64(rest[32:])), indexSize: int64(le.Uint64(rest[40:])), crc: le.Uint32(rest[48:]),
		}
		copy(e.id[:], rest)
		if e.off != off || e.stored < 0 || e.stored > o.size-off || e.size < 0 || e.size > maxHeader || e.indexSize < 0 {
			return nil, bad("entry out of bounds")
		}
		off += e.stored
		out = append(out, e)
	}
	if off != o.size {
		return nil, bad("headers do not fill it")
	}
	return out, nil
}

// list returns the bundles of a bucket.
func list(ctx context.Context, bkt bucket.Reader) ([]object, error) {
	var out []object
	err := bkt.List(ctx, dir, func(o bucket.Object) error {
		if b, ok := parseName(o.Name); ok && len(out) < maxBundles {
			out = append(out, b)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the bundles of index headers: %w", err)
	}
	return out, nil
}

// readDirectory reads the entries of a bundle from the bucket.
func readDirectory(ctx context.Context, bkt bucket.Reader, o object) ([]entry, error) {
	b, err := readRange(ctx, bkt, o.name, 0, o.directory)
	if err != nil {
		return nil, err
	}
	return decodeDirectory(o, b)
}

func readRange(ctx context.Context, bkt bucket.Reader, name string, off, length int64) (_ []byte, err error) {
	rc, err := bkt.GetRange(ctx, name, off, length)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	b := make([]byte, length)
	if _, err := io.ReadFull(rc, b); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}
