package remotewrite

import (
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/s2"

	"github.com/hindsight-io/hindsight/pkg/protoscan"
)

// Series travel between nodes of this program in blocks: fields of a message
// with series back to back. A compressed block may be made once and sent to
// several nodes.
const (
	tagBlock = 2<<3 | protoscan.Bytes // a block of snappy
	tagPlain = 3<<3 | protoscan.Bytes

	// The length of a compressed block is written, into a varint of this many
	// bytes, when the block is complete.
	blockLengthSize = 5
)

// MaxBlockSize returns the most that AppendBlock appends for n bytes of series.
func MaxBlockSize(n int) int { return 1 + blockLengthSize + s2.MaxEncodedLen(n) }

// AppendBlock appends the series as a compressed block. dst has room for
// MaxBlockSize more bytes; otherwise it is copied.
func AppendBlock(dst, series []byte) []byte {
	at := len(dst)
	if cap(dst)-at < MaxBlockSize(len(series)) {
		dst = append(make([]byte, 0, at+MaxBlockSize(len(series))), dst...)
	}
	head := 1 + blockLengthSize
	body := s2.EncodeSnappy(dst[at+head:cap(dst)], series)
	dst = dst[:at+head+len(body)]
	dst[at] = tagBlock
	n := uint64(len(body))
	for i := 1; i < blockLengthSize; i++ {
		dst[at+i] = byte(n) | 0x80
		n >>= 7
	}
	dst[at+blockLengthSize] = byte(n)
	return dst
}

// AppendPlainHead appends the head of an uncompressed block of n bytes of series.
func AppendPlainHead(dst []byte, n int) []byte {
	return binary.AppendUvarint(append(dst, tagPlain), uint64(n))
}

// DecodeBlocks reads the blocks of a message, at most limit bytes of series
// together, into a new batch. Other fields are skipped.
func DecodeBlocks(msg []byte, limit int64) (*Batch, error) {
	total, err := blocksSize(msg, limit)
	if err != nil {
		return nil, err
	}
	buf := NewBuffer(int(total))
	fs, f := protoscan.Fields{B: msg}, protoscan.Field{}
	for fs.Next(&f) {
		switch {
		case f.Type() != protoscan.Bytes:
		case f.Number() == tagPlain>>3:
			buf.B = append(buf.B, f.Data...)
		case f.Number() == tagBlock>>3:
			at := len(buf.B)
			out, err := s2.Decode(buf.B[at:cap(buf.B)], f.Data)
			if err != nil {
				buf.Release()
				return nil, Errorf(Invalid, "decompress a block of series: %w", err)
			}
			buf.B = buf.B[:at+len(out)]
		}
	}
	return ScanV1(buf, buf.B)
}

// blocksSize checks the fields and returns the bytes of series in them, as they
// declare it.
func blocksSize(msg []byte, limit int64) (total int64, err error) {
	fs, f := protoscan.Fields{B: msg}, protoscan.Field{}
	for fs.Next(&f) {
		switch {
		case f.Type() != protoscan.Bytes:
		case f.Number() == tagPlain>>3:
			total += int64(len(f.Data))
		case f.Number() == tagBlock>>3:
			n, err := s2.DecodedLen(f.Data)
			if err != nil || int64(n) > int64(len(f.Data))*maxSnappyRatio+64 {
				return 0, Errorf(Invalid, "decompress a block of series: %d bytes do not expand to %d", len(f.Data), n)
			}
			total += int64(n)
		}
		if total > limit {
			return 0, &TooLargeError{Size: total, Limit: limit, What: "the message of a peer"}
		}
	}
	if fs.Err() != nil {
		return 0, fmt.Errorf("blocks of series: %w", protoscan.ErrMalformed)
	}
	return total, nil
}
