package blockcheck

import (
	"hash/crc32"
	"math/bits"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Chunk is an encoded chunk of a series.
type Chunk struct {
	MinTime, MaxTime int64
	Encoding         chunkenc.Encoding
	Data             []byte
	// Sum is the CRC-32C of encoding and data, as in the record of the chunk.
	Sum uint32
}

// mix spreads the bits of h, as the finaliser of MurmurHash3 does.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// fold adds a number to a hash whose value depends on the order.
func fold(h, v uint64) uint64 { return mix(bits.RotateLeft64(h, 5) ^ v*0x9e3779b97f4a7c15) }

// HashSymbol returns the hash of a label name or value.
func HashSymbol(b []byte) uint64 { return xxhash.Sum64(b) }

// HashLabels adds the hash of the next symbol of a series to that of the ones before it.
// The first is added to 0.
func HashLabels(before, symbol uint64) uint64 { return fold(before, symbol) }

// hash is that of the chunk as one of the series.
func (c *Chunk) hash(series uint64) uint64 {
	return c.after(times(series, c.MinTime, c.MaxTime))
}

// after adds the chunk to the hash of its series and times.
func (c *Chunk) after(times uint64) uint64 {
	return fold(times, uint64(c.Sum)<<32|uint64(c.Encoding)<<24^uint64(len(c.Data)))
}

// times is the hash of a series and the times of a chunk.
func times(series uint64, mint, maxt int64) uint64 {
	return fold(fold(series, uint64(mint)), uint64(maxt))
}

// entry is the hash of what an index has of a chunk, from that of series and times.
func entry(times, ref uint64) uint64 { return fold(times, ref) }

// record is the hash of the record at a place of a result.
func record(ref uint64, sum uint32) uint64 { return fold(ref, uint64(sum)) }

// sums are sums of hashes, by the first byte of the hash of the series: that tells which
// series differ.
type sums [256]uint64

func part(series uint64) int { return int(series >> 56) }

func (s *sums) add(series, h uint64)    { s[part(series)] += h }
func (s *sums) remove(series, h uint64) { s[part(series)] -= h }

func (s *sums) addAll(o *sums) {
	for i := range s {
		s[i] += o[i]
	}
}

// differ returns the first part in which two sums differ, or -1.
func (s *sums) differ(o *sums) int {
	for i := range s {
		if s[i] != o[i] {
			return i
		}
	}
	return -1
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
