package remotewrite

import (
	"fmt"

	"github.com/klauspost/compress/s2"

	"github.com/hindsight-io/hindsight/pkg/errorid"
)

// TooLargeError is the error of a request above a limit of bytes.
type TooLargeError struct {
	Size, Limit int64
	What        string
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("write request too large: %s is %d bytes, the limit is %d", e.What, e.Size, e.Limit)
}

// ErrorID returns the id of the error.
func (e *TooLargeError) ErrorID() errorid.ID { return errorid.WriteTooLarge }

// DecompressedSize returns the size that a block of snappy declares, 0 when it is no
// such block.
func DecompressedSize(body []byte) int64 {
	n, err := s2.DecodedLen(body)
	if err != nil {
		return 0
	}
	return int64(n)
}

// Decompress decodes a block of snappy. The size that the block declares is
// checked against limit before any memory is taken for it.
func Decompress(body []byte, limit int64) (*Buffer, error) {
	n, err := s2.DecodedLen(body)
	if err != nil {
		return nil, fmt.Errorf("decompress the request: %w", err)
	}
	if int64(n) > limit {
		return nil, &TooLargeError{Size: int64(n), Limit: limit, What: "the decompressed body"}
	}
	// Snappy cannot expand by more than this: a larger declared size is an attempt to
	// make the receiver take memory.
	if int64(n) > int64(len(body))*maxSnappyRatio+64 {
		return nil, fmt.Errorf("decompress the request: %d bytes cannot expand to the declared %d: %w", len(body), n, s2.ErrCorrupt)
	}
	buf := NewBuffer(n)
	out, err := s2.Decode(buf.B[:cap(buf.B)], body)
	if err != nil {
		buf.Release()
		return nil, fmt.Errorf("decompress the request: %w", err)
	}
	buf.B = out
	return buf, nil
}

// A copy element of snappy takes at least 3 bytes for 64 bytes of output.
const maxSnappyRatio = 22
