package indexheader

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"runtime"
	"testing"

	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/stretchr/testify/require"

	"github.com/hindsight-io/hindsight/pkg/bucket"
)

// sparse is a gigantic object: zeros, with some bytes at the beginning, at the end, and
// before a section.
type sparse struct {
	bucket.Reader
	size int64
	at   map[int64][]byte
	read int64
}

func (s *sparse) GetRange(_ context.Context, _ string, off, length int64) (io.ReadCloser, error) {
	s.read += length
	b := make([]byte, length)
	for pos, data := range s.at {
		if pos >= off && pos+int64(len(data)) <= off+length {
			copy(b[pos-off:], data)
		}
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// TestFetch_RefusesGiganticSections has indexes of 4 TiB whose table of contents
// is valid and whose sections are or claim to be gigabytes.
func TestFetch_RefusesGiganticSections(t *testing.T) {
	const size = 4 << 40
	for _, claimed := range []uint32{0xffffffff, 2 << 30} {
		for _, toc := range [][6]uint64{
			{5, 3 << 40, 0, 0, 3 << 40, 3<<40 + 100},                // symbols of 3 TiB from the beginning
			{1 << 30, 3 << 40, 0, 0, 3 << 40, 3<<40 + 100},          // symbols in the middle
			{5, 20, 0, 0, 30, 40},                                   // a postings table of 4 TiB
			{5, 3 << 40, 0, 0, 3 << 40, uint64(size - tocSize - 4)}, // too short for a table
		} {
			var tail []byte
			for _, v := range toc {
				tail = binary.BigEndian.AppendUint64(tail, v)
			}
			tail = binary.BigEndian.AppendUint32(tail, crc32.Checksum(tail, castagnoli()))
			head := append(binary.BigEndian.AppendUint32(nil, index.MagicIndex), index.FormatV2)
			length := binary.BigEndian.AppendUint32(nil, claimed)
			s := &sparse{size: size, at: map[int64][]byte{0: head, size - tocSize: tail, int64(toc[0]): length}}
			if toc[5] != uint64(size-tocSize-4) {
				s.at[int64(toc[5])] = length
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Fetch(context.Background(), s, "index", size, nil)
			runtime.ReadMemStats(&after)
			require.ErrorIs(t, err, ErrCorrupt)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20), "%v", toc)
		}
	}
}

// TestReadSymbols_AllocatesByContentNotCount claims as many symbols as there are bytes.
func TestReadSymbols_AllocatesByContentNotCount(t *testing.T) {
	const n = 8 << 20
	body := binary.BigEndian.AppendUint32(nil, n)
	body = append(body, make([]byte, n)...)
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	b = append(b, body...)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(body, castagnoli()))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := readSymbols(b)
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, ErrCorrupt)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(8<<20))
}
